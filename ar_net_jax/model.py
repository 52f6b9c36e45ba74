"""A trained model from its directory: the config, and variables that are checked against it."""

from pathlib import Path
from typing import Any

import jax

from ar_net_jax.checkpoints import check_fits, load_model
from ar_net_jax.config import Config
from ar_net_jax.errors import UserError
from ar_net_jax.models.registry import init_variables


def find_model(directory: str | Path) -> Path:
    """The model's folder: the directory itself, or `model/` in the work directory of a training.

    Raises:
        UserError: neither holds a finished model.
    """
    directory = Path(directory)
    for candidate in (directory / "model", directory):
        if (candidate / "config.json").is_file() and (candidate / "variables").is_dir():
            return candidate
    raise UserError(
        f"{directory}: no finished model here; give the work directory of a finished "
        "`arnet train`, or its model folder"
    )


def load_config_and_variables(directory: str | Path) -> tuple[Config, dict[str, Any]]:
    """Reads a model and checks that its variables are those its config asks for.

    Args:
        directory: a model's folder, or the work directory of a finished training.

    Returns:
        The config, and `{"params": ..., "batch_stats": ...}` as host arrays.

    Raises:
        UserError: no model there, or one that does not fit its config.
    """
    model_dir = find_model(directory)
    variables, values = load_model(model_dir)
    config = Config.from_dict(values)
    check_variables(config, variables, model_dir)
    return config, variables


def check_variables(config: Config, variables: Any, directory: Path) -> None:
    """Raises UserError, naming keys and shapes, if variables do not fit a config."""
    expected = jax.eval_shape(lambda key: init_variables(config.model, key), jax.random.key(0))
    try:
        check_fits(variables, expected)
    except UserError as error:
        raise UserError(f"{directory}: {error}") from None
