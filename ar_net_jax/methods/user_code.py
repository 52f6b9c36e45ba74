"""Methods and backbones in a user's own file: found, registered, and recorded with a run.

The user names the file, as `--config=FILE.py` or `--method=FILE.py`. A run keeps its path and hash,
never the code; nothing that lies in a work directory, a bucket or a hub is ever run.
"""

import hashlib
import inspect
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ar_net_jax import backbones
from ar_net_jax.backbones import Backbone
from ar_net_jax.config.files import load_module, refuse_a_runs_own
from ar_net_jax.errors import UserError
from ar_net_jax.methods import registry
from ar_net_jax.methods.base import Method


@dataclass(frozen=True)
class CodeRecord:
    """The user's file that a model's code is in.

    Attributes:
        file: its path when the run was started; empty where all of the code is installed.
        sha256: of its contents then.
        names: of the methods and backbones that it defines.
    """

    file: str = ""
    sha256: str = ""
    names: tuple[str, ...] = ()


_LOADED: dict[str, CodeRecord] = {}
"""What was registered from files, by name of the method or backbone."""


def load_user_code(path: str, flag: str = "--method") -> CodeRecord:
    """Runs a user's file and registers the methods and backbones that it defines.

    Args:
        path: of the file.
        flag: that named it.

    Raises:
        UserError: there is no such file, it defines none, or it lies where no code is run from.
    """
    file = Path(path)
    if "://" in path:
        raise UserError(f"{flag}={path}: code is run from local files only; copy it to your side")
    if not file.is_file() or file.suffix != ".py":
        raise UserError(f"{flag}={path}: no such Python file")
    refuse_a_runs_own(file, flag)
    record = register_module(load_module(file, flag), file)
    if not record.names:
        raise UserError(
            f"{flag}={path}: the file defines neither a method nor a backbone (a class that "
            "derives from ar_net_jax.methods.Method or ar_net_jax.backbones.Backbone)"
        )
    return record


def register_module(module: ModuleType, file: Path) -> CodeRecord:
    """Registers the methods and backbones that a module defines.

    Args:
        module: of the file, already run.
        file: its path.

    Raises:
        UserError: a class is incomplete, or has a shipped one's name.
    """
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]
    names = [registry.register(cls).name for cls in classes if issubclass(cls, Method)]
    names += [_register_backbone(cls) for cls in classes if issubclass(cls, Backbone)]
    if not names:
        return CodeRecord()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    record = CodeRecord(str(file.resolve()), digest, tuple(names))
    _LOADED.update(dict.fromkeys(names, record))
    return record


def record_of(*names: str) -> CodeRecord:
    """The record of the file that defines one of these; an empty one where none is a file's."""
    return next((_LOADED[name] for name in names if name in _LOADED), CodeRecord())


def check_record(record: CodeRecord) -> None:
    """Checks that the code that a saved model needs is at hand.

    Warns where the file has changed since.

    Args:
        record: as it was saved.

    Raises:
        UserError: it was not loaded; names the file.
    """
    missing = [name for name in record.names if name not in _LOADED and not _installed(name)]
    if missing:
        raise UserError(
            f"this model uses '{missing[0]}', which {record.file} defined when it was made; give "
            f"--method={record.file}, or load(..., method=CLASS) in Python"
        )
    for name in record.names:
        now = _LOADED.get(name)
        if now is not None and now.sha256 != record.sha256:
            warnings.warn(
                f"{now.file} is not the file that the model was made with ({record.file}, sha256 "
                f"{record.sha256[:12]}..., now {now.sha256[:12]}...)",
                stacklevel=2,
            )
            return


def _installed(name: str) -> bool:
    return name in registry.names() or name in backbones.names()


def _register_backbone(cls: type[Backbone]) -> str:
    backbone = cls()
    backbones.register(backbone)
    return backbone.name
