"""The backbones by name: those shipped here, a user's own, and those of installed packages.

One file holds everything of a family: variants, network, key names of other libraries, where
weights are. Another backbone is a subclass of `Backbone`, registered by `register`, or named as an
entry point of the group `ar_net_jax.backbones` by a package that is installed.
"""

import difflib
import functools
import importlib.metadata
import re

import jax
import jax.numpy as jnp

from ar_net_jax.backbones import (
    convnext,
    efficientnet,
    efficientnet_lite,
    mobilenet_v2,
    resnet,
)
from ar_net_jax.backbones.base import Backbone, shifted_name
from ar_net_jax.backbones.layers import batch_norm, conv, global_average, run_block
from ar_net_jax.backbones.layouts import Layer, Layout
from ar_net_jax.errors import UserError
from ar_net_jax.ops.resize import Normalisation

__all__ = [
    "Backbone",
    "Layer",
    "Layout",
    "Normalisation",
    "batch_norm",
    "conv",
    "get",
    "global_average",
    "map_side",
    "names",
    "register",
    "run_block",
    "shifted_name",
]

ENTRY_POINTS = "ar_net_jax.backbones"
"""Group of the entry points by which installed packages offer backbones, each under its name."""

_FAMILIES = (resnet, mobilenet_v2, efficientnet, efficientnet_lite, convnext)
_REGISTERED: dict[str, Backbone] = {
    backbone.name: backbone for family in _FAMILIES for backbone in family.VARIANTS
}
_SHIPPED = tuple(_REGISTERED)
_SHIFTED = re.compile(r"(.+?)_shift([2-9]|[1-9]\d+)")


def names() -> tuple[str, ...]:
    """Names of all that can be had, but for other widths of MobileNetV2 and temporal shifts."""
    return tuple(dict.fromkeys([*_REGISTERED, *_entry_points()]))


def get(name: str) -> Backbone:
    """The backbone of that name.

    Args:
        name: a registered one, 'mobilenet_v2_W' with a width multiplier W such as 0.35, or an
            entry point's. With '_shiftN' after it, the same with a temporal shift, see
            `shifted_name`.

    Raises:
        UserError: no backbone has that name; the message suggests a near one.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    found = mobilenet_v2.of_width(name) or _installed(name)
    if found is not None:
        return found
    if match := _SHIFTED.fullmatch(name):
        return get(match.group(1)).shifted(int(match.group(2)))
    known = names()
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(
        f"unknown backbone {name!r}: {hint}Known are {', '.join(known)}, "
        "and mobilenet_v2_W with a width multiplier W, such as mobilenet_v2_0.35."
    )


@functools.cache
def map_side(name: str, resolution: int) -> int:
    """Side h of a backbone's last map [N, h, h, D] on frames of a side in pixels.

    Raises:
        UserError: no backbone has that name, or it has no such map.
    """
    module = get(name).module()
    if not hasattr(module, "feature_map"):
        having = [known for known in _REGISTERED if hasattr(get(known).module(), "feature_map")]
        raise UserError(
            f"backbone {name!r} gives no feature map; choose one of {', '.join(having)}"
        )

    def run(key: jax.Array, frame: jax.Array) -> jax.Array:
        found: jax.Array = module.init_with_output(key, frame, method="feature_map")[0]
        return found

    frame = jax.ShapeDtypeStruct((1, resolution, resolution, 3), jnp.float32)
    side: int = jax.eval_shape(run, jax.eval_shape(jax.random.key, 0), frame).shape[1]
    return side


def register(backbone: Backbone) -> Backbone:
    """Makes a backbone known by its name, from now on and in this process.

    One of the same name that was registered before is replaced, unless it is a shipped one.

    Returns:
        The same backbone.

    Raises:
        UserError: it lacks a name or the width of its features, or has a shipped one's name.
    """
    missing = [field for field in ("name", "features") if not getattr(backbone, field, None)]
    if missing:
        kind = type(backbone).__name__
        raise UserError(f"{kind} is no backbone: it lacks {' and '.join(missing)}; set them in it")
    if backbone.name in _SHIPPED or mobilenet_v2.of_width(backbone.name):
        raise UserError(
            f"a backbone named {backbone.name!r} ships with ar_net_jax; choose another name"
        )
    _REGISTERED[backbone.name] = backbone
    return backbone


@functools.cache
def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}


def _installed(name: str) -> Backbone | None:
    """The backbone that an installed package offers under a name; its class, or an instance."""
    if name not in _entry_points():
        return None
    point = _entry_points()[name]
    try:
        offered = point.load()
        backbone = offered() if isinstance(offered, type) else offered
    except Exception as error:
        raise UserError(
            f"backbone {name!r}: its package's {point.value} cannot be loaded ({error}); install "
            "the package anew, or name another backbone"
        ) from error
    if not isinstance(backbone, Backbone) or backbone.name != name:
        raise UserError(
            f"backbone {name!r}: its package's {point.value} is no backbone of that name; tell "
            "its authors, or name another backbone"
        )
    return register(backbone)
