"""ImageNet weights of torchvision, timm and efficientnet_pytorch as a backbone's variables."""

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ar_net_jax.backbones.architectures import EfficientNetSpec, architecture
from ar_net_jax.backbones.layouts import (
    Entry,
    backbone_entries,
    backbone_layouts,
    from_flax,
    to_flax,
)
from ar_net_jax.backbones.make import make_backbone
from ar_net_jax.errors import UserError
from ar_net_jax.ops.resize import MEAN, STD
from ar_net_jax.weights.sources import Weights

State = Mapping[str, np.ndarray]

_COUNTER = "num_batches_tracked"
_CLASSIFIERS = ("fc.", "_fc.", "classifier.")

# Tags of timm's weights that were trained with mean and deviation .5 instead of ImageNet's.
_OTHER_NORMALISATION = (".ap_in1k", ".ra4_e3600_")


class Trained(NamedTuple):
    """Settings under which an EfficientNet's weights compute what they were trained to.

    Attributes:
        paddings: rules that fit, their source's own first. TensorFlow's weights were trained with
            'same' at the native size, for which 'static' is the same.
        norm: of `models.efficientnet.norm_settings`.
    """

    paddings: tuple[str, ...]
    norm: str


_TENSORFLOW = Trained(("same", "static"), "tensorflow")
_PYTORCH = Trained(("symmetric",), "pytorch")


def import_backbone(name: str, state: State, layout: str | None = None) -> dict[str, Any]:
    """Turns an ImageNet state dictionary into a backbone's variables; its classifier is left out.

    Args:
        name: of the architecture, see `ar_net_jax.backbones.architectures`.
        state: key -> array in PyTorch's axis order.
        layout: of the keys; None detects it.

    Returns:
        `{"params": ..., "batch_stats": ...}`, float32 host arrays, for `make_backbone(name)`.

    Raises:
        UserError: a key is missing or unexpected, or an array has the wrong shape or no numbers.
    """
    entries = backbone_entries(name, layout or detect_layout(name, state))
    _check_keys(name, entries, state)
    expected = variable_shapes(name)
    variables = {
        (entry.collection, *entry.path): _convert(
            name, entry, state[entry.source], expected[entry.collection, *entry.path]
        )
        for entry in entries
    }
    return unflatten_dict(variables)


def detect_layout(name: str, keys: Collection[str]) -> str:
    """The layout of a backbone's names that keys are in.

    Raises:
        UserError: they are in none of them.
    """

    def fit(layout: str) -> int:
        return sum(entry.source in keys for entry in backbone_entries(name, layout))

    best = max(backbone_layouts(name), key=fit)
    if not fit(best):
        raise UserError(
            f"no key is one of {name}'s (the first are: {_first_few(sorted(keys))}); give weights "
            f"of {name} from torchvision, timm or efficientnet_pytorch"
        )
    return best


def trained_with(name: str, layout: str, weights: Weights) -> Trained | None:
    """The settings that weights were trained with; None where there is no choice.

    Args:
        name: of the architecture.
        layout: of the keys.
        weights: where they come from.

    Raises:
        UserError: the weights do not say how they were trained, or expect frames that are
            normalised otherwise than here.
    """
    _check_normalisation(weights)
    if not isinstance(architecture(name), EfficientNetSpec):
        return None
    if layout == "torchvision":
        # From B5 on torchvision has TensorFlow's BatchNorm, and its own padding all the same.
        return _PYTORCH._replace(norm="tensorflow") if name == "efficientnet_b5" else _PYTORCH
    if layout == "efficientnet_pytorch":
        return _TENSORFLOW._replace(paddings=("static", "same"))
    origin = str(weights.card.get("architecture", weights.name))
    if origin.startswith("tf_efficientnet"):
        return _TENSORFLOW
    if origin.startswith("efficientnet_b"):
        return _PYTORCH
    raise UserError(
        f"{weights.path}: timm has two kinds of EfficientNet, which pad differently, and the file "
        "does not say which this is; let its name start with tf_efficientnet or efficientnet_b, "
        "as on the hub"
    )


def _check_normalisation(weights: Weights) -> None:
    card = weights.card.get("pretrained_cfg", {})
    mean, std = card.get("mean", MEAN), card.get("std", STD)
    other = any(tag in weights.name for tag in _OTHER_NORMALISATION)
    if other or not (np.allclose(mean, MEAN, atol=1e-3) and np.allclose(std, STD, atol=1e-3)):
        raise UserError(
            f"{weights.name} was trained on frames normalised otherwise than here (mean "
            f"{_rounded(MEAN)}, deviation {_rounded(STD)}); choose other weights of the same "
            "architecture"
        )


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in values]


def _check_keys(name: str, entries: Sequence[Entry], state: State) -> None:
    known = {entry.source for entry in entries}
    missing = [entry.source for entry in entries if entry.source not in state]
    extra = [
        key
        for key in state
        if key not in known
        and not key.startswith(_CLASSIFIERS)
        and key.rsplit(".", 1)[-1] != _COUNTER
    ]
    faults = [f"miss {_first_few(missing)}"] * bool(missing)
    faults += [f"have besides {_first_few(extra)}"] * bool(extra)
    if faults:
        raise UserError(
            f"the weights {' and '.join(faults)}, so they are not those of {name}; give weights "
            f"of {name}, or change the backbone in the config"
        )


@functools.cache
def variable_shapes(name: str) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Shape of each of a backbone's variables, by collection and path."""
    frames = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    tree = jax.eval_shape(make_backbone(name).init, jax.random.key(0), frames)
    return {path: leaf.shape for path, leaf in flatten_dict(dict(tree)).items()}


def _convert(name: str, entry: Entry, array: np.ndarray, expected: tuple[int, ...]) -> np.ndarray:
    wanted = from_flax(entry, np.empty(expected, np.bool_)).shape
    if array.shape != wanted:
        raise UserError(
            f"{entry.source} has the shape {array.shape}, but {name} needs {wanted}; give weights "
            f"of {name}, or change the backbone in the config"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(
            f"{entry.source} holds {array.dtype} where weights should be; get the file once more"
        )
    return to_flax(entry, array).astype(np.float32, copy=False)


def _first_few(keys: Sequence[str], limit: int = 3) -> str:
    rest = len(keys) - limit
    return ", ".join(keys[:limit]) + (f" and {rest} more" if rest > 0 else "")
