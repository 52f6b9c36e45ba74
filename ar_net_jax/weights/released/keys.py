"""Key names of the checkpoints that the authors released, as entries of this package's models.

Names stand here without the `module.` that every key of a released file starts with.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from ar_net_jax import backbones
from ar_net_jax.backbones.layouts import Entry, Layer, layer_entries
from ar_net_jax.config.model import ModelConfig
from ar_net_jax.errors import UserError
from ar_net_jax.modules.multi_backbone import POLICY, backbone_name
from ar_net_jax.weights.identify import identify

PREFIX = "module."

LITE, SINGLE, LISTED = "lite_backbone", "base_model", "base_model_list"
"""Where a released file keeps its backbones: the policy's, a lone one, one per resolution."""

RELEASED_BACKBONES = tuple(
    name for name in backbones.names() if backbones.get(name).released_layouts
)
"""Backbones that the authors' code can build."""

Form = Literal["lite", "single"]
"""How Uniform's one network is named: `lite_backbone` and `lite_fc`, or `base_model`, `new_fc`."""

# The LSTM's arrays: theirs, ours, and how the axes are ordered.
_LSTM = (
    ("weight_ih", "kernel_ih", "linear"),
    ("weight_hh", "kernel_hh", "linear"),
    ("bias_ih", "bias_ih", "vector"),
    ("bias_hh", "bias_hh", "vector"),
)


class Part(NamedTuple):
    """A network, recurrent layer or classifier under both of its names.

    Attributes:
        source: its released name.
        path: of its Flax module.
        content: the name of a backbone, or 'lstm' or 'linear'.
    """

    source: str
    path: tuple[str, ...]
    content: str


def model_parts(config: ModelConfig, form: Form = "single") -> list[Part]:
    """What a model is made of.

    Args:
        config: the model.
        form: of Uniform's names; the other approaches have one form each.
    """
    first = (backbone_name(0), "backbone")
    if config.approach == "uniform":
        backbone, head = (SINGLE, "new_fc") if form == "single" else (LITE, "lite_fc")
        return [
            Part(backbone, first, config.backbones[0]),
            Part(head, (backbone_name(0), "head"), "linear"),
        ]
    if config.approach == "lstm":
        return [
            Part(LITE, first, config.backbones[0]),
            Part("rnn", ("lstm",), "lstm"),
            Part("lite_fc", ("head",), "linear"),
        ]
    parts = [
        Part(LITE, (POLICY, "backbone"), config.policy.backbone),
        Part("rnn", (POLICY, "lstm"), "lstm"),
        Part("linear", (POLICY, "decision"), "linear"),
    ]
    if config.policy.is_action:
        parts.append(Part("lite_fc", (POLICY, "lowest_head"), "linear"))
    for i, name in enumerate(config.backbones):
        parts.append(Part(f"{LISTED}.{i}", (backbone_name(i), "backbone"), name))
        parts.append(Part(f"new_fc_list.{i}", (backbone_name(i), "head"), "linear"))
    return parts


def released_entries(parts: Iterable[Part], layouts: Mapping[str, str]) -> tuple[Entry, ...]:
    """Every array of a model, under its released key without `module.`.

    Args:
        parts: from `model_parts`.
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
