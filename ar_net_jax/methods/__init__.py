"""Methods: one file each, and the interface that everything else knows them by.

`base.Method` is the interface, `registry` finds a method by its name.
"""

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.costs.network import Network, Recurrence
from ar_net_jax.methods.base import FROZEN, MODEL, Method, Moment, Traits
from ar_net_jax.methods.registry import build, get, names, register
from ar_net_jax.methods.stages import StageConfig

__all__ = [
    "FROZEN",
    "MODEL",
    "Method",
    "ModelConfig",
    "Moment",
    "Network",
    "Recurrence",
    "StageConfig",
    "Traits",
    "build",
    "get",
    "names",
    "register",
]
