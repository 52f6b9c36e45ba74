"""Checks shapes and types of arrays at run time, wherever a function of the package tells them.

`conftest.py` names this to jaxtyping's import hook, which wraps every function of the package.
"""

import typing
from collections.abc import Callable
from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import AbstractArray

_CONFIGURED = beartype(
    # Beartype knows `Self` only where it decorates the whole class.
    conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any}))
)


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function whose annotations hold shapes; others stay as they are.

    So does what makes a dataclass: JAX fills its pytrees with whatever a transformation needs.
    """
    hints = getattr(function, "__annotations__", {})
    if function.__name__ == "__init__" or not any(map(_tells_a_shape, hints.values())):
        return function
    return _CONFIGURED(function)


def _tells_a_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_tells_a_shape, typing.get_args(hint)))
