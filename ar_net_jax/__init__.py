"""AR-Net in JAX: adaptive frame resolution for efficient action recognition (Meng et al. 2020)."""

import importlib
from typing import TYPE_CHECKING, Any

from ar_net_jax.errors import UserError

if TYPE_CHECKING:
    from ar_net_jax.data.video import read_video
    from ar_net_jax.experiment import Config
    from ar_net_jax.inference.model import Model, load
    from ar_net_jax.inference.step import Result

__all__ = ["Config", "Model", "Result", "UserError", "load", "read_video"]
__version__ = "0.1.0"

# Where each name is defined. They are imported when first asked for, because JAX and what else they
# need takes seconds: `arnet --help` and what reads only `__version__` should not wait for it.
_HOMES = {
    "Config": "ar_net_jax.experiment",
    "Model": "ar_net_jax.inference.model",
    "Result": "ar_net_jax.inference.step",
    "load": "ar_net_jax.inference.model",
    "read_video": "ar_net_jax.data.video",
}


def __getattr__(name: str) -> Any:
    """The public names that are imported lazily (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names beside what is there already."""
    return sorted({*globals(), *__all__})
