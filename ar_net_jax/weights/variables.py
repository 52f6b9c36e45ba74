"""Arrays of a PyTorch state dictionary as variables, their keys, shapes and types checked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from ar_net_jax.backbones.layouts import Entry, from_flax, to_flax
from ar_net_jax.errors import UserError, first_few

State = Mapping[str, np.ndarray]
Shapes = Mapping[tuple[str, ...], tuple[int, ...]]


def to_variables(
    entries: Sequence[Entry],
    state: State,
    shapes: Shapes,
    *,
    unused: Callable[[str], bool],
    remedy: str,
    prefix: str = "",
) -> dict[str, Any]:
    """Arranges arrays as the variables that entries name.

    Args:
        entries: where each array goes.
        state: key -> array in PyTorch's axis order.
        shapes: of the variables, by collection and path.
        unused: whether a key may be there although no entry has it.
        remedy: how errors end.
        prefix: of the keys as they stand in the file, where `state` and `entries` leave it out.

    Returns:
        `{"params": ..., "batch_stats": ...}`, as far as there are such, float32 host arrays.

    Raises:
        UserError: a key is missing or unexpected, or an array has the wrong shape or no
            floating-point numbers.
    """
    known = {entry.source for entry in entries}
    missing = [prefix + entry.source for entry in entries if entry.source not in state]
    extra = [prefix + key for key in state if key not in known and not unused(key)]
    faults = [f"miss {first_few(missing)}"] * bool(missing)
    faults += [f"have besides {first_few(extra)}"] * bool(extra)
    if faults:
        raise UserError(f"the weights {' and '.join(faults)}; {remedy}")
    variables = {}
    for entry in entries:
        array = state[entry.source]
        _check(prefix + entry.source, array, shape_in_file(entry, shapes), remedy)
        variables[entry.collection, *entry.path] = to_flax(entry, array).astype(
            np.float32, copy=False
        )
    return unflatten_dict(variables)


def shape_in_file(entry: Entry, shapes: Shapes) -> tuple[int, ...]:
    """The shape that an entry's array has in a state dictionary, given those of the variables."""
    expected = shapes[entry.collection, *entry.path]
    return from_flax(entry, np.empty(expected, np.bool_)).shape


def _check(key: str, array: np.ndarray, wanted: tuple[int, ...], remedy: str) -> None:
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{key} holds {array.dtype} where weights should be; {remedy}")
    if array.shape != wanted:
        raise UserError(f"{key} has the shape {array.shape}, expected {wanted}; {remedy}")
