"""From `--config=NAME[:variant]` and overrides to a validated config."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from ar_net_jax.config.config import Config
from ar_net_jax.config.shipped import shipped_configs, shipped_dir
from ar_net_jax.errors import UserError

# What absl and ml_collections raise on a bad flag.
_FLAG_ERRORS = (flags.Error, KeyError, AttributeError, TypeError, ValueError)
# Of a config file of the user's; its other errors keep the traceback that leads to them.
_FILE_ERRORS = (SyntaxError, ImportError)


def config_path(name: str) -> Path:
    """The file of a shipped config, or the path itself where one is given.

    Raises:
        UserError: neither; names the closest shipped config.
    """
    if name.endswith(".py") or "/" in name:
        if not Path(name).is_file():
            raise UserError(f"--config={name}: no such file")
        return Path(name)
    known = shipped_configs()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"shipped: {', '.join(known)}"
        raise UserError(f"--config={name}: no such config; {hint}")
    return shipped_dir("configs") / f"{name}.py"


def load_config_dict(spec: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Evaluates a config file and applies overrides from the command line.

    Args:
        spec: `NAME[:variant]` or `path/to/file.py[:variant]`.
        overrides: such as `--config.data.batch_size=8`.

    Raises:
        UserError: an unknown file, variant or field, or a value of the wrong type.
    """
    name, _, variant = spec.partition(":")
    path = config_path(name)
    values = flags.FlagValues()
    argv = ["arnet", f"--config={path}" + (f":{variant}" if variant else ""), *overrides]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    try:
        values(argv)
        return values.config
    except _FILE_ERRORS as error:
        raise UserError(f"--config={spec}: {error}") from error
    except _FLAG_ERRORS as error:
        raise UserError(f"--config={spec}: {_reason(error)}") from error


def apply_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """A config with single fields changed, such as by `--config.data.num_frames=8`.

    Raises:
        UserError: an unknown field or an impossible value.
    """
    if not overrides:
        return config
    values = flags.FlagValues()
    plain = ml_collections.ConfigDict(_with_tuples(config.to_dict()))
    argv = ["arnet", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", plain, flag_values=values, sys_argv=argv)
        values(argv)
    except _FLAG_ERRORS as error:
        raise UserError(_reason(error)) from error
    return Config.from_dict(values.config)


def load_config(spec: str, overrides: Sequence[str] = ()) -> Config:
    """As `load_config_dict`, validated."""
    return Config.from_dict(load_config_dict(spec, overrides))


def _reason(error: BaseException) -> str:
    """One line that says why a config could not be read, dug out of what absl wraps it in."""
    chain = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    ours = [str(cause) for cause in chain if isinstance(cause, UserError)]
    if ours:
        return ours[-1]
    text: object = error
    while isinstance(text, BaseException) and text.args:
        text = text.args[0]
    lines = str(text).strip().splitlines() or [type(error).__name__]
    if isinstance(error, KeyError | AttributeError):
        return f"unknown field {': '.join(lines)}"
    # A traceback of the config file ends with the error itself.
    return lines[-1] if "Traceback" in str(text) else lines[0]


def _with_tuples(value: Any) -> Any:
    """JSON's lists as the tuples that config fields are."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(_with_tuples(item) for item in value) if isinstance(value, list) else value
