"""AR-Net in JAX: adaptive frame resolution for efficient action recognition (Meng et al. 2020)."""

from ar_net_jax.data.video import read_video
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.model import Model, load
from ar_net_jax.inference.step import Result

__all__ = ["Config", "Model", "Result", "UserError", "load", "read_video"]
__version__ = "0.1.0"
