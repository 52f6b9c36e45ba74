"""The networks that a configured model is made of: where each one works, its cost, its size."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from ar_net_jax.backbones.architectures import COST_CONVENTIONS, feature_dim
from ar_net_jax.config.config import ModelConfig
from ar_net_jax.costs.modules import frame_gflops, lstm_gflops
from ar_net_jax.methods.registry import init_variables

LSTM = "LSTM"
POLICY = "policy"


@dataclass(frozen=True)
class Part:
    """One network of a model.

    Attributes:
        name: `224px` and the like for a resolution's backbone, `policy` or `LSTM`.
        parameters: how many the network holds, with its classifier or decision head.
        gflops: per frame, by convention, with the classifier; an LSTM's are per step.
        backbone: its architecture; None for the LSTM.
        resolution: side in pixels of the frames that it takes; None for the LSTM.
        num_classes: outputs of the classifier that `gflops` counts; 0 for none.
    """

    name: str
    parameters: int
    gflops: Mapping[str, float]
    backbone: str | None = None
    resolution: int | None = None
    num_classes: int = 0


def model_parts(model: ModelConfig) -> list[Part]:
    """The networks of a model, in the order of its resolutions, then policy and LSTM.

    Only what the model's cost table charges is listed, so the parts of a model that runs all of
    them on every frame (`uniform`, `lstm`, `multi_scale`) add up to its cost. As in that table, a
    classifier is counted on its backbone's features even where it reads the LSTM's hidden state.

    Args:
        model: the model's config.
    """
    params = _parameter_shapes(model)
    parts = [
        _backbone(f"{size}px", model, backbone, size, model.num_classes, params[f"backbone_{i}"])
        for i, (backbone, size) in enumerate(zip(model.backbones, model.resolutions))
    ]
    policy = model.policy
    if model.approach == "lstm":
        tree = {key: params[key] for key in ("lstm", "head")}
        parts.append(_lstm(model.backbones[0], policy.hidden_size, 0, tree))
    elif model.has_policy and (policy.is_action or model.approach != "multi_scale"):
        recurrent = ("lstm", "decision")
        seen = {key: tree for key, tree in params["policy"].items() if key not in recurrent}
        classes = model.num_classes if policy.is_action else 0
        parts.append(_backbone(POLICY, model, policy.backbone, policy.resolution, classes, seen))
        tree = {key: tree for key, tree in params["policy"].items() if key in recurrent}
        choices = 0 if model.approach == "multi_scale" else model.space.num_actions
        parts.append(_lstm(policy.backbone, policy.hidden_size, choices, tree))
    return parts


@functools.cache
def _parameter_shapes(model: ModelConfig) -> Any:
    """The parameters' shapes; tracing a model takes a second, and it is asked for often."""
    key = jax.eval_shape(jax.random.key, 0)
    return jax.eval_shape(lambda key: init_variables(model, key), key)["params"]


def _backbone(
    name: str, model: ModelConfig, backbone: str, size: int, num_classes: int, params: Any
) -> Part:
    gflops = {
        convention: frame_gflops(backbone, size, num_classes, convention, model.padding)
        for convention in COST_CONVENTIONS
    }
    return Part(name, _count(params), gflops, backbone, size, num_classes)


def _lstm(backbone: str, hidden_size: int, num_actions: int, params: Any) -> Part:
    gflops = {
        convention: lstm_gflops(feature_dim(backbone), hidden_size, num_actions, convention)
        for convention in COST_CONVENTIONS
    }
    return Part(LSTM, _count(params), gflops)


def _count(params: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
