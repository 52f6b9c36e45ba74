"""Config files: found by name, evaluated, and changed by overrides from the command line."""

import difflib
import hashlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from ar_net_jax.config.shipped import shipped_configs, shipped_dir
from ar_net_jax.errors import UserError, first_line

# What absl and ml_collections raise on a bad flag.
_FLAG_ERRORS = (flags.Error, KeyError, AttributeError, TypeError, ValueError)
# Of a file of the user's; its other errors keep the traceback that leads to them.
_FILE_ERRORS = (SyntaxError, ImportError)
# Starts the names of modules that are single files, run by `load_module`.
FILE_MODULES = "_arnet_file_"
# What `arnet train` leaves beside its config.json.
_MARKS_OF_A_RUN = ("checkpoints", "stages", "history", "model", "variables")


def config_path(name: str) -> Path:
    """The file of a shipped config, or the path itself where one is given.

    Raises:
        UserError: neither; names the closest shipped config. Or the file lies in the directory of
            a run.
    """
    if name.endswith(".py") or "/" in name:
        if not Path(name).is_file():
            raise UserError(f"--config={name}: no such file")
        refuse_a_runs_own(Path(name), "--config")
        return Path(name)
    known = shipped_configs()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"shipped: {', '.join(known)}"
        raise UserError(f"--config={name}: no such config; {hint}")
    return shipped_dir("configs") / f"{name}.py"


def load_module(path: Path, flag: str) -> ModuleType:
    """Runs a Python file as a module of its own, once for each of its contents.

    Args:
        path: of the file.
        flag: that named it, for the error.

    Raises:
        UserError: it does not parse, or imports what is not there.
    """
    digest = hashlib.sha256(f"{path.resolve()}\n".encode() + path.read_bytes()).hexdigest()
    name = f"{FILE_MODULES}{digest[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # As for any .py file.
    module = importlib.util.module_from_spec(spec)
    # Before it runs: dataclasses look their module up.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except _FILE_ERRORS as error:
        del sys.modules[name]
        raise UserError(f"{flag}={path}: {first_line(error)}") from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def refuse_a_runs_own(file: Path, flag: str) -> None:
    """Raises UserError if a user's file lies in the directory of a run, from where no code is run.

    To be called before `load_module`. The package's own files are exempt: an environment may be
    installed below such a directory.
    """
    for folder in file.resolve().parents:
        is_run = (folder / "config.json").exists()
        if is_run and any((folder / mark).exists() for mark in _MARKS_OF_A_RUN):
            raise UserError(
                f"{flag}={file}: lies in the directory of a run, {folder}, from where no code is "
                "run; move it elsewhere"
            )


def evaluate(module: ModuleType, spec: str, variants: str) -> Mapping[str, Any]:
    """What the `get_config` of a config file returns.

    Args:
        module: of the file.
        spec: that named it, for the error.
        variants: after the colon; empty for none.

    Raises:
        UserError: the file has no `get_config`, or takes no variants, or not these.
    """
    get_config = getattr(module, "get_config", None)
    if get_config is None:
        raise UserError(f"--config={spec}: the file defines no function get_config")
    try:
        return get_config(variants) if variants else get_config()
    except UserError as error:
        raise UserError(f"--config={spec}: {error}") from None


def override(config: ml_collections.ConfigDict, overrides: Sequence[str]) -> Any:
    """A config with single fields changed, such as by `--config.data.num_frames=8`.

    Args:
        config: with every field that may be changed.
        overrides: the flags.

    Raises:
        UserError: an unknown field, or a value of the wrong type.
    """
    values = flags.FlagValues()
    argv = ["arnet", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        values(argv)
    except _FLAG_ERRORS as error:
        raise UserError(_reason(error)) from error
    return values.config


def _reason(error: BaseException) -> str:
    """One line that says why a flag could not be read, dug out of what absl wraps it in."""
    text: object = error
    while isinstance(text, BaseException) and text.args:
        text = text.args[0]
    lines = str(text).strip().splitlines() or [type(error).__name__]
    if isinstance(error, KeyError | AttributeError):
        return f"unknown field {': '.join(lines)}"
    return lines[0]
