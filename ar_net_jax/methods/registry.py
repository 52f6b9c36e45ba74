"""The methods that are known: the shipped ones, those of installed packages, a user's own."""

import difflib
from importlib import metadata
from typing import Any

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.errors import UserError
from ar_net_jax.methods.adafocus_v2 import AdaFocusV2
from ar_net_jax.methods.adaframe import AdaFrame
from ar_net_jax.methods.ar_net import ARNet
from ar_net_jax.methods.base import Method
from ar_net_jax.methods.frameexit import FrameExit
from ar_net_jax.methods.listentolook import ListenToLook
from ar_net_jax.methods.liteeval import LiteEval
from ar_net_jax.methods.lstm import LSTM
from ar_net_jax.methods.multi_agent import MultiAgent
from ar_net_jax.methods.multi_scale import MultiScale
from ar_net_jax.methods.ocsampler import OCSampler
from ar_net_jax.methods.random_policy import RandomPolicy
from ar_net_jax.methods.scsampler import SCSampler
from ar_net_jax.methods.uni_adafocus import UniAdaFocus
from ar_net_jax.methods.uniform import Uniform

ENTRY_POINTS = "ar_net_jax.methods"
"""Group of entry points by which an installed package offers methods."""

_CLASSES: tuple[type[Method[Any, Any]], ...] = (
    ARNet,
    Uniform,
    LSTM,
    RandomPolicy,
    MultiScale,
    SCSampler,
    FrameExit,
    OCSampler,
    LiteEval,
    ListenToLook,
    AdaFrame,
    MultiAgent,
    AdaFocusV2,
    UniAdaFocus,
)
_METHODS = {cls.name: cls for cls in _CLASSES}
_SHIPPED = tuple(_METHODS)


def names() -> tuple[str, ...]:
    """Names of all methods that can be had."""
    return tuple(dict.fromkeys([*_METHODS, *(point.name for point in _entry_points())]))


def get(name: str) -> type[Method[Any, Any]]:
    """The class of a method.

    Raises:
        UserError: no method has that name; lists those that there are, and how to add one.
    """
    if name in _METHODS:
        return _METHODS[name]
    for point in _entry_points():
        if point.name == name:
            return register(point.load())
    known = names()
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise UserError(
        f"config.method: no method '{name}'; {hint}known: {', '.join(known)}. One of your own is "
        "given by its file: --method=FILE.py"
    )


def register(cls: type[Method[Any, Any]]) -> type[Method[Any, Any]]:
    """Makes a method known by its name; may be used as a decorator.

    A method of the same name that was registered before is replaced, unless it is a shipped one.

    Raises:
        UserError: it is no complete method, or has a shipped one's name.
    """
    missing = [part for part in ("name", "title", "Config") if not hasattr(cls, part)]
    if not issubclass(cls, Method) or missing:
        raise UserError(f"{cls.__name__} is no method: it lacks {', '.join(missing) or 'Method'}")
    if not issubclass(cls.Config, ModelConfig):
        raise UserError(f"{cls.__name__}.Config must derive from ar_net_jax.methods.ModelConfig")
    if cls.name in _SHIPPED and _METHODS[cls.name] is not cls:
        raise UserError(f"a method named '{cls.name}' ships with ar_net_jax; choose another name")
    _METHODS[cls.name] = cls
    return cls


def build(name: str, config: ModelConfig) -> Method[Any, Any]:
    """A method under its configuration."""
    return get(name)(config)


def _entry_points() -> tuple[metadata.EntryPoint, ...]:
    return tuple(metadata.entry_points(group=ENTRY_POINTS))
