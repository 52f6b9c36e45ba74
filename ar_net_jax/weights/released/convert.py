"""Checkpoints that the authors of AR-Net released, as this package's config and variables."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from ar_net_jax.backbones.layouts import COUNTER, Entry
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, apply_overrides, with_outputs
from ar_net_jax.methods import Method
from ar_net_jax.methods.released import LISTED, LITE, SINGLE, Contents, parts_of
from ar_net_jax.weights.released.config import REMEDY, derive_config, read_contents
from ar_net_jax.weights.released.keys import (
    PREFIX,
    RELEASED_BACKBONES,
    released_entries,
)
from ar_net_jax.weights.variables import Shapes, State, shape_in_file, to_variables


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
    method: Method[Any, Any], contents: Contents, arrays: dict[str, np.ndarray]
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
    shapes = {path: leaf.shape for path, leaf in flatten_dict(method.variable_shapes()).items()}
    _check_classes(entries, arrays, shapes)
    return to_variables(
        entries,
        arrays,
        shapes,
        unused=lambda key: key.startswith(form.unused),
        remedy=REMEDY,
        prefix=PREFIX,
    )


def _check_classes(entries: Iterable[Entry], arrays: State, shapes: Shapes) -> None:
    """Raises UserError if a classifier is for another number of classes than the config's."""
    for entry in entries:
        if entry.source not in arrays or not entry.source.startswith(("lite_fc.", "new_fc")):
            continue
        found, wanted = arrays[entry.source].shape, shape_in_file(entry, shapes)
        if len(found) == len(wanted) and found[1:] == wanted[1:] and found != wanted:
            raise UserError(
                f"{PREFIX}{entry.source} is for {found[0]} classes, but config.model.num_classes "
                f"is {wanted[0]}; {REMEDY}"
            )
