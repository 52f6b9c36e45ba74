"""A model's variables under the released key names, so that the authors' code can run them."""

from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from ar_net_jax import backbones
from ar_net_jax.backbones.layouts import from_flax
from ar_net_jax.config.model import ModelConfig
from ar_net_jax.errors import UserError
from ar_net_jax.weights.identify import COUNTER
from ar_net_jax.weights.released.keys import (
    PREFIX,
    RELEASED_BACKBONES,
    model_parts,
    released_entries,
)

_INPUT_SIZE = 224
"""Side in pixels of the frames that the authors' code takes."""


def export_released(config: ModelConfig, variables: Any) -> dict[str, np.ndarray]:
    """A state dictionary that the authors' code loads.

    Uniform is written as `base_model` and `new_fc`. Multi-Scale gets one row more in its decision
    head, of zeros: the published model has the row of a skip there, which it never takes.

    Args:
        config: the model.
        variables: its `{"params": ..., "batch_stats": ...}`.

    Returns:
        Released key -> array in PyTorch's axis order, BatchNorms' batch counters included.

    Raises:
        UserError: the authors' code cannot express the config; the message names the field.
    """
    check_expressible(config)
    arrays = flatten_dict(variables)
    state: dict[str, np.ndarray] = {}
    for entry in released_entries(model_parts(config), {}):
        array = np.asarray(arrays[entry.collection, *entry.path])
        state[PREFIX + entry.source] = from_flax(entry, array)
        module, _, name = entry.source.rpartition(".")
        if name == "running_var":
            state[f"{PREFIX}{module}.{COUNTER}"] = np.zeros((), np.int64)
    if config.approach == "multi_scale":
        for key in (f"{PREFIX}linear.weight", f"{PREFIX}linear.bias"):
            rows = state[key]
            state[key] = np.concatenate([rows, np.zeros_like(rows[:1])])
    return state


def check_expressible(config: ModelConfig) -> None:
    """Checks that the authors' code can compute what a model computes.

    Fields that matter in training alone, such as dropout, are not looked at.

    Raises:
        UserError: it cannot; the message names the field, its value and what there is instead.
    """
    policy = config.policy
    names = {f"backbones[{i}]": name for i, name in enumerate(config.backbones)}
    if config.has_policy:
        names["policy.backbone"] = policy.backbone
    for field, name in names.items():
        known = ", ".join(RELEASED_BACKBONES)
        _require(name in RELEASED_BACKBONES, field, name, f"it knows {known}")
        settings = backbones.get(name).released_settings
        if settings is not None:
            fits, instead = config.padding in settings.paddings, settings.paddings[0]
            _require(fits, "padding", config.padding, f"its {name} has {instead!r}")
            fits = config.norm == settings.norm
            _require(fits, "norm", config.norm, f"its {name} has {settings.norm!r}")
    if config.approach != "uniform":  # Which its --rescale_to gives any one resolution.
        _require(
            config.resolutions[0] == _INPUT_SIZE == config.image_size,
            "resolutions",
            config.resolutions,
            f"its highest resolution is {_INPUT_SIZE} always",
        )
    if config.has_policy:
        _check_policy(config)


def _check_policy(config: ModelConfig) -> None:
    policy = config.policy
    _require(config.resize == "nearest", "resize", config.resize, "it has 'nearest'")
    # A skip of one frame covers no other, and only AR-Net restores what a skip covers.
    covers = config.approach == "ar_net" and max(config.skips, default=0) > 1
    _require(
        policy.cell_state == "advancing" or not covers,
        "policy.cell_state",
        policy.cell_state,
        "its cell is 'advancing'",
    )
    _require(
        policy.lowest_head == "hidden" or not policy.is_action,
        "policy.lowest_head",
        policy.lowest_head,
        "its lowest head reads 'hidden'",
    )


def _require(condition: bool, field: str, value: object, instead: str) -> None:
    if not condition:
        raise UserError(
            f"config.model.{field} is {value!r}, which the authors' code cannot express: "
            f"{instead}; train with that, or export to a directory or .safetensors"
        )
