"""Checkpoints that the authors of AR-Net released, as this package's config and variables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ar_net_jax.backbones.layouts import Entry, from_flax, to_flax
from ar_net_jax.config.model import ModelConfig
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, apply_overrides
from ar_net_jax.methods.registry import init_variables
from ar_net_jax.weights.identify import COUNTER
from ar_net_jax.weights.released.config import REMEDY, Contents, derive_config, read_contents
from ar_net_jax.weights.released.keys import (
    LISTED,
    LITE,
    PREFIX,
    RELEASED_BACKBONES,
    SINGLE,
    model_parts,
    released_entries,
)

State = Mapping[str, np.ndarray]

# What the baselines' files may hold besides, left over and used by nothing.
_UNUSED = {
    "uniform": ("rnn.", "linear."),
    "lstm": ("linear.", f"{LISTED}.0.", "new_fc_list.0."),
}


def is_released(keys: Iterable[str]) -> bool:
    """Whether a state dictionary is that of a released AR-Net checkpoint, whole or not."""
    return any(key.removeprefix(PREFIX).split(".")[0] in (LITE, SINGLE, LISTED) for key in keys)


def import_released(
    state: State,
    *,
    approach: str | None = None,
    config: Config | None = None,
    overrides: Sequence[str] = (),
) -> tuple[Config, dict[str, Any]]:
    """Turns a released state dictionary into a model.

    Args:
        state: released key -> array in PyTorch's axis order, as in the file's `state_dict`.
        approach: of the model, where keys and shapes fit several.
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
        config = derive_config(contents, approach, overrides)
    else:
        chosen = [f"--config.model.approach={approach}"] if approach else []
        config = apply_overrides(config, [*overrides, *chosen])
    return config, _variables(config.model, contents, arrays)


def _variables(model: ModelConfig, contents: Contents, arrays: dict[str, np.ndarray]) -> dict:
    """Checks arrays against a model and arranges them as its variables."""
    parts = model_parts(model, contents.form)
    for part in parts:
        found, _ = contents.backbones.get(part.source, (part.content, ""))
        if part.content in RELEASED_BACKBONES and found != part.content:
            raise UserError(
                f"the keys '{PREFIX}{part.source}.*' are those of {found}, but the config asks "
                f"for {part.content}; {REMEDY}"
            )
    layouts = {source: layout for source, (_, layout) in contents.backbones.items()}
    entries = released_entries(parts, layouts)
    if model.approach == "multi_scale":
        _drop_unused_actions(arrays, len(model.resolutions))
    _check_keys(entries, arrays, _UNUSED.get(model.approach, ()))
    expected = _expected_shapes(model)
    variables = {
        (entry.collection, *entry.path): _convert(
            entry, arrays[entry.source], expected[entry.collection, *entry.path]
        )
        for entry in entries
    }
    return unflatten_dict(variables)


def _drop_unused_actions(arrays: dict[str, np.ndarray], kept: int) -> None:
    """Leaves out the decision head's rows for skips, of which Multi-Scale makes no use."""
    for key in ("linear.weight", "linear.bias"):
        if key in arrays:
            arrays[key] = arrays[key][:kept]


def _check_keys(entries: Iterable[Entry], arrays: State, unused: tuple[str, ...]) -> None:
    known = {entry.source for entry in entries}
    missing = [key for key in known if key not in arrays]
    extra = [key for key in arrays if key not in known and not key.startswith(unused)]
    faults = [f"misses {_first_few(missing)}"] * bool(missing)
    faults += [f"has besides {_first_few(extra)}"] * bool(extra)
    if faults:
        raise UserError(f"the checkpoint {' and '.join(faults)}; {REMEDY}")


def _expected_shapes(model: ModelConfig) -> dict[tuple[str, ...], tuple[int, ...]]:
    tree = jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0))
    return {path: leaf.shape for path, leaf in flatten_dict(tree).items()}


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


def _first_few(keys: Sequence[str], limit: int = 3) -> str:
    names = sorted(PREFIX + key for key in keys)
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
