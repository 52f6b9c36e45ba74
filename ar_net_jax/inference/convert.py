"""Models from one form to another: trained weights of others come in, models go out."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ar_net_jax.checkpoints import save_model
from ar_net_jax.data.classes import read_class_names
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, apply_overrides, with_classes
from ar_net_jax.inference.model import check_variables, find_model, load_config_and_variables
from ar_net_jax.runtime.storage import local_path, open_storage
from ar_net_jax.weights.export import (
    SAFETENSORS,
    holds_config,
    save_released,
    save_safetensors,
)
from ar_net_jax.weights.files import read_state
from ar_net_jax.weights.hub import is_on_hub
from ar_net_jax.weights.imagenet_classifier import import_classifier
from ar_net_jax.weights.released.convert import import_released, is_released
from ar_net_jax.weights.sources import locate

RELEASED = ".pth.tar"


def convert(
    source: str | Path,
    to: str | Path,
    *,
    method: str | None = None,
    config: Config | None = None,
    overrides: Sequence[str] = (),
    classes: str | Path | None = None,
) -> Config:
    """Converts a model from one form to another.

    Args:
        source: a released `.pth.tar`; a model of this package, as a folder, `.safetensors` or
            `hf://owner/name`; or
            an ImageNet classifier, as a file, by its name on the Hugging Face hub, or as
            `package:NAME`, an installed package's.
        to: a folder for `ar_net_jax.load`, `x.safetensors`, or `x.pth.tar` for the authors' code.
        method: name of a released model's method, where its keys and shapes fit several.
        config: taken instead of the one that is derived from the keys, or comes with the model.
        overrides: changes of single fields, such as `--config.model.num_classes=200`.
        classes: a file with the names of the model's classes, one to a line; by default the model
            keeps those that it has.

    Returns:
        The config of the converted model.

    Raises:
        UserError: an unreadable source, one that does not fit the config, an unsuitable target,
            a config that the target cannot express, or a file of other than as many names. Nothing
            is written then.
    """
    target = local_path("--to", to)
    _check_target(target)
    place = find_model(source) if is_on_hub(source) else open_storage(source)
    config, variables = _read(place, method, config, overrides)
    if classes is not None:
        outputs = config.build_method().config.num_classes
        config = with_classes(config, read_class_names(classes, outputs))
    if target.name.endswith(SAFETENSORS):
        save_safetensors(target, config, variables)
    elif target.name.endswith(RELEASED):
        save_released(target, config, variables)
    else:
        save_model(target, variables, config.to_dict())
    return config


def _read(
    source: Path, method: str | None, config: Config | None, overrides: Sequence[str]
) -> tuple[Config, dict[str, Any]]:
    one_file = source.suffix == SAFETENSORS and source.is_file() and holds_config(source)
    if not source.is_dir() and not one_file:
        return _import(source, method, config, overrides)
    own, variables = load_config_and_variables(source)
    config = apply_overrides(config or own, overrides)
    if method not in (None, config.method):
        raise UserError(f"--as {method}: {source} is a model of method '{config.method}'")
    check_variables(config, variables, source)
    return config, variables


def _import(
    source: Path, method: str | None, config: Config | None, overrides: Sequence[str]
) -> tuple[Config, dict[str, Any]]:
    """Reads what others trained; which of the two kinds it is shows in its keys."""
    weights = locate(str(source))
    state = read_state(weights.path)
    try:
        if is_released(state):
            return import_released(state, method=method, config=config, overrides=overrides)
        return import_classifier(weights, method=method, config=config, overrides=overrides)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _check_target(to: Path) -> None:
    """Raises UserError before anything is read, if a result could not be put there."""
    if to.name.endswith((SAFETENSORS, RELEASED)):
        if to.is_dir():
            raise UserError(f"--to {to} is a folder; give another name for the file")
        if not to.parent.is_dir():
            raise UserError(f"--to {to}: there is no folder {to.parent}; make it first")
        return
    if to.exists() and not to.is_dir():
        raise UserError(f"--to {to} is a file; give a folder, x{SAFETENSORS} or x{RELEASED}")
    if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{1,10}", to.suffix) and not to.is_dir():
        raise UserError(
            f"--to {to}: nothing is written as '{to.suffix}'; give a folder, x{SAFETENSORS} or "
            f"x{RELEASED}"
        )
    if to.is_dir() and not {path.name for path in to.iterdir()} <= {"config.json", "variables"}:
        raise UserError(f"--to {to} holds something else than a model; give a new folder")
