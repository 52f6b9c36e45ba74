"""A model's variables under the released key names, so that the authors' code can run them."""

from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from ar_net_jax import backbones
from ar_net_jax.backbones.layouts import COUNTER, from_flax
from ar_net_jax.errors import UserError
from ar_net_jax.methods import Method
from ar_net_jax.methods.released import ReleasedForm, parts_of, require_expressible
from ar_net_jax.weights.released.keys import (
    PREFIX,
    RELEASED_BACKBONES,
    released_entries,
)


def export_released(method: Method[Any, Any], variables: Any) -> dict[str, np.ndarray]:
    """A state dictionary that the authors' code loads.

    Uniform is written as `base_model` and `new_fc`. Multi-Scale gets one row more in its decision
    head, of zeros: the published model has the row of a skip there, which it never takes.

    Args:
        method: the method under its configuration.
        variables: its `{"params": ..., "batch_stats": ...}`.

    Returns:
        Released key -> array in PyTorch's axis order, BatchNorms' batch counters included.

    Raises:
        UserError: the authors' code cannot express the config; the message names the field.
    """
    form = check_expressible(method)
    arrays = flatten_dict(variables)
    state: dict[str, np.ndarray] = {}
    for entry in released_entries(parts_of(method, form.names(method, None)), {}):
        array = np.asarray(arrays[entry.collection, *entry.path])
        state[entry.source] = from_flax(entry, array)
        module, _, name = entry.source.rpartition(".")
        if name == "running_var":
            state[f"{module}.{COUNTER}"] = np.zeros((), np.int64)
    form.write(state)
    return {PREFIX + key: array for key, array in state.items()}


def check_expressible(method: Method[Any, Any]) -> ReleasedForm:
    """Checks that the authors' code can compute what a model computes.

    Fields that matter in training alone, such as dropout, are not looked at.

    Returns:
        What the authors' files of the method look like.

    Raises:
        UserError: it cannot; the message names the field, its value and what there is instead.
    """
    config, form = method.config, method.released
    if form is None:
        raise UserError(
            f"config.method is '{method.name}', which the authors' code does not know; export to a "
            "directory or .safetensors"
        )
    require_expressible(config.head == "mean", "head", config.head, "it averages, as 'mean' does")
    for module, network in method.backbone_modules().items():
        name, known = network.backbone, ", ".join(RELEASED_BACKBONES)
        require_expressible(
            name in RELEASED_BACKBONES, f"({module}'s backbone)", name, f"it knows {known}"
        )
        settings = backbones.get(name).released_settings
        if settings is not None:
            paddings, norm = settings
            for field, values in (("padding", paddings), ("norm", (norm,))):
                found, instead = getattr(config, field), f"its {name} has {values[0]!r}"
                require_expressible(found in values, field, found, instead)
    form.check_expressible(config)
    return form
