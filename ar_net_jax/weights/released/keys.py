"""Key names of the checkpoints that the authors released, as entries of this package's models.

Names stand here without the `module.` that every key of a released file starts with.
"""

from collections.abc import Iterable, Mapping

from ar_net_jax.backbones.architectures import (
    ARCHITECTURES,
    EfficientNetSpec,
    architecture,
    feature_dim,
)
from ar_net_jax.backbones.layout_modules import Module
from ar_net_jax.backbones.layouts import Entry, backbone_entries, module_entries
from ar_net_jax.errors import UserError
from ar_net_jax.methods.released import Part

PREFIX = "module."
COUNTER = "num_batches_tracked"

RELEASED_BACKBONES = tuple(
    name
    for name in ARCHITECTURES
    if name in ("resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2")
    or isinstance(architecture(name), EfficientNetSpec)
)
"""Backbones that the authors' code can build."""

# The LSTM's arrays: theirs, ours, and how the axes are ordered.
_LSTM = (
    ("weight_ih", "kernel_ih", "linear"),
    ("weight_hh", "kernel_hh", "linear"),
    ("bias_ih", "bias_ih", "vector"),
    ("bias_hh", "bias_hh", "vector"),
)


def released_layout(name: str) -> str:
    """The layout in which the authors' code names a backbone's layers."""
    spec = architecture(name)
    return "efficientnet_pytorch" if isinstance(spec, EfficientNetSpec) else "torchvision"


def released_entries(parts: Iterable[Part], layouts: Mapping[str, str]) -> tuple[Entry, ...]:
    """Every array of a model, under its released key without `module.`.

    Args:
        parts: from `methods.released.parts_of`.
        layouts: layout by `Part.source` of backbones whose names are not those of today.
    """
    entries: list[Entry] = []
    for part in parts:
        if part.content == "lstm":
            inner = [Entry(theirs, "params", (ours,), kind) for theirs, ours, kind in _LSTM]
        elif part.content == "linear":
            inner = list(module_entries(Module("linear", "", (), bias=True)))
        else:
            layout = layouts.get(part.source, released_layout(part.content))
            inner = list(backbone_entries(part.content, layout))
        entries += [
            Entry(
                f"{part.source}.{entry.source.removeprefix('.')}",
                entry.collection,
                (*part.path, *entry.path),
                entry.kind,
            )
            for entry in inner
        ]
    return tuple(entries)


def identify_backbone(source: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str]:
    """Which backbone keys belong to, even where a few of them are missing or too many.

    Args:
        source: the backbone's released name, such as `base_model_list.0`.
        shapes: released key without `module.` -> shape, of the whole file.

    Returns:
        The architecture's name and its layout.

    Raises:
        UserError: the keys are like those of no backbone known here.
    """
    found = {
        key.removeprefix(f"{source}."): shape
        for key, shape in shapes.items()
        if key.startswith(f"{source}.")
    }

    def fit(candidate: tuple[str, str]) -> tuple[int, bool]:
        known = {entry.source for entry in backbone_entries(*candidate)}
        # B1 and B2 have the same keys; the width of their features tells them apart.
        width = (found.get("_conv_head.weight") or (0,))[0]
        return -len(known ^ found.keys()), width == feature_dim(candidate[0])

    candidates = [(name, released_layout(name)) for name in RELEASED_BACKBONES]
    candidates.append(("mobilenet_v2", "torchvision_old"))
    best = max(candidates, key=fit)
    if not found.keys() & {entry.source for entry in backbone_entries(*best)}:
        raise UserError(
            f"the keys of '{PREFIX}{source}' belong to no backbone known here "
            f"({', '.join(RELEASED_BACKBONES)})"
        )
    return best
