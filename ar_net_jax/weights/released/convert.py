"""Checkpoints that the authors of AR-Net released, as this package's config and variables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ar_net_jax.backbones.layouts import COUNTER, Entry, from_flax, to_flax
from ar_net_jax.errors import UserError, first_few
from ar_net_jax.experiment import Config, apply_overrides, with_outputs
from ar_net_jax.methods import Method
from ar_net_jax.methods.released import LISTED, LITE, SINGLE, Contents, parts_of
from ar_net_jax.weights.released.config import REMEDY, derive_config, read_contents
from ar_net_jax.weights.released.keys import (
    PREFIX,
    RELEASED_BACKBONES,
    released_entries,
)

State = Mapping[str, np.ndarray]


def is_released(keys: Iterable[str]) -> bool:
    """Whether a state dictionary is that of a released AR-Net checkpoint, whole or not."""
    return any(key.removeprefix(PREFIX).split(".")[0] in (LITE, SINGLE, LISTED) for key in keys)


def import_released(
    state: State,
    *,
    method: str | None = None,
    config: Config | None = None,
    overrides: Sequence[str] = (),
) -> tuple[Config, dict[str, Any]]:
    """Turns a released state dictionary into a model.

    Args:
        state: released key -> array in PyTorch's axis order, as in the file's `state_dict`.
        method: name of the model's method, where keys and shapes fit several.
        config: taken instead of the one derived from keys and shapes.
        overrides: changes of single fields, such as `--config.model.num_classes=200`.

    Returns:
        The config, and `{"params": ..., "batch_stats": ...}` as float32 host arrays.

    Raises:
        UserError: the keys are not those of a released checkpoint, or do not fit the config; or
            keys and shapes do not decide something that is not given either.
    """
    arrays = {
        key.removeprefix(PREFIX): array
        for key, array in state.items()
        if key.rsplit(".", 1)[-1] != COUNTER
    }
    contents = read_contents({key: array.shape for key, array in arrays.items()})
    if config is None:
        config = derive_config(contents, method, overrides)
    else:
        config = apply_overrides(config, overrides)
        if method not in (None, config.method):
            raise UserError(f"--as {method}: the config given is of method '{config.method}'")
    # Where neither the config nor the file tells, the method's own number.
    outputs = contents.num_classes or config.build_method().config.num_classes
    config = with_outputs(config, outputs)
    return config, _variables(config.build_method(), contents, arrays)


def _variables(
    method: Method[Any], contents: Contents, arrays: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Checks arrays against a model and arranges them as its variables."""
    form = method.released
    if form is None:
        raise UserError(f"config.method: the authors' files hold no model of '{method.name}'")
    parts = parts_of(method, form.names(method, contents))
    for part in parts:
        found, _ = contents.backbones.get(part.source, (part.content, ""))
        if part.content in RELEASED_BACKBONES and found != part.content:
            raise UserError(
                f"the keys '{PREFIX}{part.source}.*' are those of {found}, but the config asks "
                f"for {part.content}; {REMEDY}"
            )
    layouts = {source: layout for source, (_, layout) in contents.backbones.items()}
    entries = released_entries(parts, layouts)
    form.read(arrays, method)
    _check_keys(entries, arrays, form.unused)
    shapes = flatten_dict(method.variable_shapes())
    variables = {
        (entry.collection, *entry.path): _convert(
            entry, arrays[entry.source], shapes[entry.collection, *entry.path].shape
        )
        for entry in entries
    }
    return unflatten_dict(variables)


def _check_keys(entries: Iterable[Entry], arrays: State, unused: tuple[str, ...]) -> None:
    known = {entry.source for entry in entries}
    missing = [key for key in known if key not in arrays]
    extra = [key for key in arrays if key not in known and not key.startswith(unused)]
    faults = [f"misses {_named(missing)}"] * bool(missing)
    faults += [f"has besides {_named(extra)}"] * bool(extra)
    if faults:
        raise UserError(f"the checkpoint {' and '.join(faults)}; {REMEDY}")


def _convert(entry: Entry, array: np.ndarray, expected: tuple[int, ...]) -> np.ndarray:
    """An array in Flax's axis order and float32.

    Raises:
        UserError: it has another shape than expected, or holds no floating-point numbers.
    """
    key = PREFIX + entry.source
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{key} holds {array.dtype} where weights should be; {REMEDY}")
    if array.ndim == len(expected):
        converted = to_flax(entry, array)
        if converted.shape == expected:
            return converted.astype(np.float32, copy=False)
    wanted = from_flax(entry, np.empty(expected, np.bool_)).shape
    is_head = entry.source.startswith(("lite_fc.", "new_fc"))
    if is_head and array.shape[1:] == wanted[1:]:
        raise UserError(
            f"{key} is for {array.shape[0]} classes, but config.model.num_classes is "
            f"{wanted[0]}; {REMEDY}"
        )
    raise UserError(f"{key} has the shape {array.shape}, expected {wanted}; {REMEDY}")


def _named(keys: Sequence[str]) -> str:
    return first_few(sorted(PREFIX + key for key in keys))
