"""Key names of the checkpoints that the authors released, as entries of this package's models.

Names stand here without the `module.` that every key of a released file starts with.
"""

from collections.abc import Iterable, Mapping

from ar_net_jax import backbones
from ar_net_jax.backbones.layouts import Entry, Kind, Layer, layer_entries
from ar_net_jax.errors import UserError
from ar_net_jax.methods.released import Part
from ar_net_jax.weights.identify import identify

PREFIX = "module."

RELEASED_BACKBONES = tuple(
    name for name in backbones.names() if backbones.get(name).released_layouts
)
"""Backbones that the authors' code can build."""

# The LSTM's arrays: theirs, ours, and how the axes are ordered.
_LSTM: tuple[tuple[str, str, Kind], ...] = (
    ("weight_ih", "kernel_ih", "linear"),
    ("weight_hh", "kernel_hh", "linear"),
    ("bias_ih", "bias_ih", "vector"),
    ("bias_hh", "bias_hh", "vector"),
)


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
            inner = list(layer_entries(Layer("linear", "", (), bias=True)))
        else:
            backbone = backbones.get(part.content)
            layout = layouts.get(part.source, backbone.released_layouts[0])
            inner = list(backbone.entries(layout))
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
    candidates = [
        (name, layout)
        for name in RELEASED_BACKBONES
        for layout in backbones.get(name).released_layouts
    ]
    best = identify(found, candidates)
    if best is None:
        raise UserError(
            f"the keys of '{PREFIX}{source}' belong to no backbone known here "
            f"({', '.join(RELEASED_BACKBONES)})"
        )
    return best
