"""The backbones by name: those shipped here, a user's own, and those of installed packages.

One file holds everything of a family: variants, network, key names of other libraries, where
weights are. Another backbone is a subclass of `Backbone`, registered by `register`, or named as an
entry point of the group `ar_net_jax.backbones` by a package that is installed.
"""

import difflib
import functools
import importlib.metadata

from ar_net_jax.backbones import (
    convnext,
    efficientnet,
    efficientnet_lite,
    mobilenet_v2,
    resnet,
)
from ar_net_jax.backbones.base import Backbone
from ar_net_jax.errors import UserError

ENTRY_POINTS = "ar_net_jax.backbones"
"""Group of the entry points by which installed packages offer backbones, each under its name."""

_FAMILIES = (resnet, mobilenet_v2, efficientnet, efficientnet_lite, convnext)
_REGISTERED: dict[str, Backbone] = {
    backbone.name: backbone for family in _FAMILIES for backbone in family.VARIANTS
}


def names() -> tuple[str, ...]:
    """Names of the backbones that are registered."""
    return tuple(_REGISTERED)


def get(name: str) -> Backbone:
    """The backbone of that name.

    Args:
        name: a registered one, 'mobilenet_v2_W' with a width multiplier W such as 0.35, or an
            entry point's.

    Raises:
        UserError: no backbone has that name; the message suggests a near one.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    found = mobilenet_v2.of_width(name) or _installed(name)
    if found is not None:
        return found
    known = [*_REGISTERED, *_entry_points()]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(
        f"unknown backbone {name!r}: {hint}Known are {', '.join(known)}, "
        "and mobilenet_v2_W with a width multiplier W, such as mobilenet_v2_0.35."
    )


def register(backbone: Backbone) -> None:
    """Makes a backbone known by its name, from now on and in this process.

    Raises:
        UserError: another one has that name already.
    """
    known = _REGISTERED.get(backbone.name)
    if known is not None and type(known) is not type(backbone):
        raise UserError(
            f"two backbones are named {backbone.name!r}, of {type(known).__module__} and of "
            f"{type(backbone).__module__}; rename one of them"
        )
    _REGISTERED[backbone.name] = backbone


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
    register(backbone)
    return backbone
