"""Methods: one file each, and the interface that everything else knows them by.

`base.Method` is the interface, `registry` finds a method by its name. What a method of one's own is
usually made of can be imported from here; CONTRIBUTING.md shows one.
"""

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network, Recurrence
from ar_net_jax.methods.base import FROZEN, MODEL, Method
from ar_net_jax.methods.registry import build, get, names, register
from ar_net_jax.methods.stages import Moment, StageConfig
from ar_net_jax.methods.traits import Traits
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones, run_on_frames
from ar_net_jax.modules.heads import Linear, frame_classifier
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.routing import masked_average

__all__ = [
    "EVALUATION",
    "FROZEN",
    "MODEL",
    "Choices",
    "Decisions",
    "Linear",
    "Method",
    "Mode",
    "ModelConfig",
    "Moment",
    "Network",
    "Prediction",
    "Recurrence",
    "StageConfig",
    "Traits",
    "build",
    "frame_classifier",
    "get",
    "mask_or_ones",
    "masked_average",
    "names",
    "register",
    "require",
    "run_on_frames",
]
