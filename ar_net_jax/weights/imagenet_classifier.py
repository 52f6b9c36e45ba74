"""A whole ImageNet classifier as a model of the Uniform approach: backbone and head."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ar_net_jax.backbones.architectures import EfficientNetSpec, architecture, feature_dim
from ar_net_jax.backbones.layouts import backbone_entries, backbone_layouts
from ar_net_jax.config.pretrained import PretrainedConfig
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, apply_overrides
from ar_net_jax.modules.multi_backbone import backbone_name
from ar_net_jax.weights.files import read_state
from ar_net_jax.weights.imagenet import State, trained_with
from ar_net_jax.weights.pretrained import pretrained_variables
from ar_net_jax.weights.released.keys import COUNTER, RELEASED_BACKBONES
from ar_net_jax.weights.sources import Weights

# Where torchvision, timm and efficientnet_pytorch keep the last layer.
_HEADS = ("fc", "_fc", "classifier", "classifier.1")

_SIZE = 224
"""Side in pixels of ImageNet crops, but for EfficientNets, which have sizes of their own."""

_ALTERNATIVE = (
    "to train other classes from these weights, name them in config.pretrained of `arnet train`"
)


def import_classifier(
    weights: Weights, *, config: Config | None = None, overrides: Sequence[str] = ()
) -> tuple[Config, dict[str, Any]]:
    """Turns an ImageNet classifier into a Uniform model of the same classes.

    Args:
        weights: a file of torchvision, timm or efficientnet_pytorch.
        config: taken instead of the one derived from keys and shapes.
        overrides: changes of single fields, such as `--config.model.resolutions=(224,)`.

    Returns:
        The config, and `{"params": ..., "batch_stats": ...}` as float32 host arrays.

    Raises:
        UserError: the weights are of no backbone known here, have no classifier, or do not fit
            the config.
    """
    state = read_state(weights.path)
    head = next((name for name in _HEADS if f"{name}.weight" in state), None)
    if head is None or state[f"{head}.weight"].ndim != 2 or f"{head}.bias" not in state:
        raise UserError(f"these weights have no classifier; {_ALTERNATIVE}")
    kernel, bias = state[f"{head}.weight"].T, state[f"{head}.bias"]
    name, layout = _identify(state, width=kernel.shape[0])
    spec, trained = architecture(name), trained_with(name, layout, weights)
    model: dict[str, Any] = {
        "approach": "uniform",
        "num_classes": kernel.shape[1],
        "backbones": (name,),
        "resolutions": (spec.native_size if isinstance(spec, EfficientNetSpec) else _SIZE,),
        "skips": (),
    }
    if trained is not None:
        model |= {"padding": trained.paddings[0], "norm": trained.norm}
    config = apply_overrides(config or Config.from_dict({"model": model}), overrides)
    _check(config, name, kernel.shape[1])
    named = PretrainedConfig(backbones=(str(weights.path),))
    variables = pretrained_variables(dataclasses.replace(config, pretrained=named))
    variables["params"][backbone_name(0)]["head"] = {
        "kernel": np.ascontiguousarray(kernel, np.float32),
        "bias": np.asarray(bias, np.float32),
    }
    return config, variables


def _check(config: Config, name: str, num_classes: int) -> None:
    model = config.model
    if model.approach != "uniform":
        raise UserError(
            f"one ImageNet network makes no model of approach '{model.approach}'; leave --approach "
            f"out, or {_ALTERNATIVE}"
        )
    if model.backbones != (name,):
        raise UserError(f"config.model.backbones is {model.backbones}, but the weights are {name}")
    if model.num_classes != num_classes:
        raise UserError(
            f"config.model.num_classes is {model.num_classes}, but the classifier has "
            f"{num_classes} classes; {_ALTERNATIVE}"
        )


def _identify(state: State, width: int) -> tuple[str, str]:
    """The architecture and the layout whose keys are most like a file's."""
    keys = {
        key
        for key in state
        if not key.startswith(tuple(f"{head}." for head in _HEADS)) and not key.endswith(COUNTER)
    }

    def fit(candidate: tuple[str, str]) -> tuple[int, bool]:
        known = {entry.source for entry in backbone_entries(*candidate)}
        # B1 and B2 have the same keys; the width of their features tells them apart.
        return -len(known ^ keys), feature_dim(candidate[0]) == width

    candidates = [
        (name, layout) for name in RELEASED_BACKBONES for layout in backbone_layouts(name)
    ]
    best = max(candidates, key=fit)
    if not keys & {entry.source for entry in backbone_entries(*best)}:
        raise UserError(
            f"neither a released AR-Net checkpoint nor weights of a backbone known here (known: "
            f"{', '.join(RELEASED_BACKBONES)}; the first keys are {', '.join(sorted(keys)[:3])})"
        )
    return best
