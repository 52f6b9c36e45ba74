"""ImageNet weights of torchvision, timm and efficientnet_pytorch as a backbone's variables."""

import functools
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from ar_net_jax import backbones
from ar_net_jax.backbones.base import Trained
from ar_net_jax.backbones.layouts import COUNTER
from ar_net_jax.errors import UserError, first_few
from ar_net_jax.ops.resize import Normalisation
from ar_net_jax.weights.sources import Weights
from ar_net_jax.weights.variables import State, to_variables

# Tags of timm's weights that were trained with another normalisation than their architecture's.
_HALVES = Normalisation((0.5,) * 3, (0.5,) * 3)
_OTHER_NORMALISATION = {".ap_in1k": _HALVES, ".ra4_e3600_": _HALVES}

_ALIKE = 1 / 255
"""Normalisations that differ by no more, a level of grey, are taken to be the same."""


def import_backbone(name: str, state: State, layout: str | None = None) -> dict[str, Any]:
    """Turns an ImageNet state dictionary into a backbone's variables; its classifier is left out.

    Args:
        name: of the backbone.
        state: key -> array in PyTorch's axis order.
        layout: of the keys; None detects it.

    Returns:
        `{"params": ..., "batch_stats": ...}`, float32 host arrays, for the backbone's module; of
        a network without BatchNorm `{"params": ...}`.

    Raises:
        UserError: a key is missing or unexpected, or an array has the wrong shape or no numbers.
    """
    layout = layout or detect_layout(name, state)
    backbone = backbones.get(name)
    classifier = backbone.layout(layout).classifier.split(".")[0]

    def unused(key: str) -> bool:
        return key.split(".")[0] == classifier or key.rsplit(".", 1)[-1] == COUNTER

    return to_variables(
        backbone.entries(layout),
        state,
        variable_shapes(name),
        unused=unused,
        remedy=f"give weights of {name}, or change the backbone in the config",
    )


def detect_layout(name: str, keys: Collection[str]) -> str:
    """The layout of a backbone's names that keys are in.

    Raises:
        UserError: they are in none of them.
    """
    backbone = backbones.get(name)
    fits = {
        layout: sum(entry.source in keys for entry in backbone.entries(layout))
        for layout in backbone.layouts()
    }
    best = max(fits, key=fits.__getitem__, default="")
    if not fits.get(best):
        raise UserError(
            f"no key is one of {name}'s (the first are: {first_few(sorted(keys))}); give weights "
            f"of {name} in a layout of {', '.join(fits) or 'its authors'}"
        )
    return best


def trained_with(name: str, layout: str, weights: Weights) -> Trained | None:
    """The settings that weights were trained with; None where there is no choice.

    Args:
        name: of the backbone.
        layout: of the keys.
        weights: where they come from.

    Raises:
        UserError: the weights do not say how they were trained, or expect frames that are
            normalised otherwise than here.
    """
    backbone = backbones.get(name)
    _check_normalisation(weights, backbone.normalisation)
    try:
        return backbone.trained_with(layout, str(weights.card.get("architecture", weights.name)))
    except UserError as error:
        raise UserError(f"{weights.path}: {error}") from None


def _check_normalisation(weights: Weights, expected: Normalisation) -> None:
    """Compares with what the card says, or else the name; where neither says anything, passes."""
    told = (other for tag, other in _OTHER_NORMALISATION.items() if tag in weights.name)
    stated = next(told, expected)
    card = weights.card.get("pretrained_cfg", {})
    found = (card.get("mean", stated.mean), card.get("std", stated.std))
    if not np.allclose(found, expected, rtol=0, atol=_ALIKE):
        raise UserError(
            f"{weights.name} was trained on frames normalised otherwise than here (mean "
            f"{_rounded(expected.mean)}, deviation {_rounded(expected.std)}); choose other weights "
            "of the same architecture"
        )


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]


@functools.cache
def variable_shapes(name: str) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Shape of each of a backbone's variables, by collection and path."""
    frames = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    tree = jax.eval_shape(backbones.get(name).module().init, jax.random.key(0), frames)
    return {path: leaf.shape for path, leaf in flatten_dict(dict(tree)).items()}
