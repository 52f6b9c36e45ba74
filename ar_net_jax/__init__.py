"""AR-Net in JAX: adaptive frame resolution for efficient action recognition (Meng et al. 2020)."""

from ar_net_jax.config import Config
from ar_net_jax.errors import UserError

__all__ = ["Config", "UserError"]
__version__ = "0.1.0"
