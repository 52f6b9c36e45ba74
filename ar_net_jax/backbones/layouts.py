"""Where each array of a PyTorch state dictionary lives among a backbone's Flax variables."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from ar_net_jax.backbones import layouts_efficientnet, layouts_mobilenet, layouts_resnet
from ar_net_jax.backbones.architectures import MobileNetV2Spec, ResNetSpec, Spec, architecture
from ar_net_jax.backbones.layout_modules import Module
from ar_net_jax.errors import UserError

Kind = Literal["conv", "depthwise", "linear", "vector"]

LAYOUTS = ("torchvision", "torchvision_old", "timm", "efficientnet_pytorch")
"""Families of names: `torchvision_old` is torchvision's MobileNetV2 before its version 0.3."""


class Entry(NamedTuple):
    """One array under both of its names.

    Attributes:
        source: key in the PyTorch state dictionary.
        collection: of the Flax variables.
        path: names from the root of the collection to the array.
        kind: how the axes are ordered: 'conv' [O, I, h, w] and 'depthwise' [C, 1, h, w] are
            [h, w, I, O] and [h, w, 1, C] in Flax, 'linear' [O, I] is [I, O], 'vector' is alike.
    """

    source: str
    collection: Literal["params", "batch_stats"]
    path: tuple[str, ...]
    kind: Kind


_NORM = (
    ("weight", "params", "scale"),
    ("bias", "params", "bias"),
    ("running_mean", "batch_stats", "mean"),
    ("running_var", "batch_stats", "var"),
)

_Modules = Callable[..., list[Module]]


def backbone_entries(name: str, layout: str) -> tuple[Entry, ...]:
    """Every array of a backbone.

    Args:
        name: of the architecture, see `ar_net_jax.backbones.architectures`.
        layout: one of `LAYOUTS`; a ResNet has the same names in torchvision and in timm.

    Returns:
        Entries whose `path` starts within the backbone's module and whose `source` has no prefix.

    Raises:
        UserError: no such architecture, or it does not exist in that layout.
    """
    known = _layouts(architecture(name))
    if layout not in known:
        raise UserError(f"no layout {layout!r} of {name}: choose one of {', '.join(known)}")
    entries: list[Entry] = []
    for module in known[layout](architecture(name)):
        entries += module_entries(module)
    return tuple(entries)


def backbone_layouts(name: str) -> tuple[str, ...]:
    """The layouts in which a backbone's names are known."""
    return tuple(_layouts(architecture(name)))


def module_entries(module: Module) -> tuple[Entry, ...]:
    """The arrays of one convolution, linear layer or BatchNorm."""
    if module.kind == "norm":
        return tuple(
            Entry(f"{module.source}.{theirs}", collection, (*module.path, ours), "vector")
            for theirs, collection, ours in _NORM
        )
    weight = Entry(f"{module.source}.weight", "params", (*module.path, "kernel"), module.kind)
    if not module.bias:
        return (weight,)
    return (weight, Entry(f"{module.source}.bias", "params", (*module.path, "bias"), "vector"))


def to_flax(entry: Entry, array: np.ndarray) -> np.ndarray:
    """An array of PyTorch's axis order in Flax's, bits and dtype unchanged.

    >>> to_flax(Entry("fc.weight", "params", ("fc", "kernel"), "linear"), np.zeros((5, 3))).shape
    (3, 5)
    """
    if entry.kind == "vector":
        return array
    axes = (1, 0) if entry.kind == "linear" else (2, 3, 1, 0)
    return np.ascontiguousarray(array.transpose(axes))


def from_flax(entry: Entry, array: np.ndarray) -> np.ndarray:
    """The inverse of `to_flax`."""
    if entry.kind == "vector":
        return array
    axes = (1, 0) if entry.kind == "linear" else (3, 2, 0, 1)
    return np.ascontiguousarray(array.transpose(axes))


def _layouts(spec: Spec) -> dict[str, _Modules]:
    if isinstance(spec, ResNetSpec):
        return {"torchvision": layouts_resnet.torchvision, "timm": layouts_resnet.torchvision}
    if isinstance(spec, MobileNetV2Spec):
        return {
            "torchvision": layouts_mobilenet.torchvision,
            "torchvision_old": layouts_mobilenet.torchvision_old,
            "timm": layouts_mobilenet.timm,
        }
    return {
        "torchvision": layouts_efficientnet.torchvision,
        "timm": layouts_efficientnet.timm,
        "efficientnet_pytorch": layouts_efficientnet.efficientnet_pytorch,
    }
