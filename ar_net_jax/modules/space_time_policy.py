"""Where and when to focus, from the maps and features of frames that were glanced at."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.backbones.layers import batch_norm
from ar_net_jax.modules.heads import matmul

Array = jax.Array


def temporal_policy_macs(channels: int, hidden: int) -> int:
    """Multiply-accumulates of `TemporalPolicy` on one of its frames."""
    return 3 * channels * hidden + 3 * hidden * hidden + hidden


def spatial_policy_macs(side: int, channels: int, hidden: int) -> int:
    """Multiply-accumulates of `SpatialPolicy` on one of its frames, of a map of that side."""
    return side * side * hidden * (channels + 2 * 27 * hidden + 4)


class TemporalPolicy(nn.Module):
    """Two convolutions over time, and a weight for every frame.

    Attributes:
        hidden: channels.
    """

    hidden: int

    @nn.compact
    def __call__(self, features: Array, there: Array, *, train: bool) -> Array:
        """Features float32 [B, G, D] to weights [B, G] of sum 1, zero where not `there` [B, G]."""
        x = jnp.where(there[..., None], features, 0.0)
        for i in range(2):
            x = nn.Conv(self.hidden, (3,), padding=1, use_bias=False, name=f"conv_{i}")(x)
            x = nn.relu(batch_norm(train=train, dtype=jnp.float32, name=f"norm_{i}")(x))
            x = jnp.where(there[..., None], x, 0.0)
        # It starts at equal weights.
        kernel = self.param("kernel", nn.initializers.normal(0.001), (self.hidden, 1), jnp.float32)
        logits = jnp.where(there, matmul(x, kernel)[..., 0], -jnp.inf)
        weights = jax.nn.softmax(jnp.where(there.any(-1, keepdims=True), logits, 0.0), axis=-1)
        return jnp.where(there, weights, 0.0)


class SpatialPolicy(nn.Module):
    """Three convolutions over time, rows and columns, and a box for every frame.

    Attributes:
        hidden: channels.
    """

    hidden: int

    @nn.compact
    def __call__(self, maps: Array, there: Array, *, train: bool) -> Array:
        """Decides about frames.

        Args:
            maps: float32 [B, G, h, w, D]; their gradient stops here.
            there: bool [B, G], False where there is no frame.
            train: normalise by the batch and update the running statistics.

        Returns:
            float32 [B, G, 4] from 0 to 1: place of the top and of the left edge, height and width.
        """
        kept = there[:, :, None, None, None]
        x = jnp.where(kept, jax.lax.stop_gradient(maps), 0.0)
        for i, width in enumerate((1, 3, 3)):
            shape, padding = (width,) * 3, width // 2
            x = nn.Conv(self.hidden, shape, padding=padding, use_bias=False, name=f"conv_{i}")(x)
            x = nn.relu(batch_norm(train=train, dtype=jnp.float32, name=f"norm_{i}")(x))
            x = jnp.where(kept, x, 0.0)
        x = x.reshape(*there.shape, -1)
        init = nn.initializers.lecun_normal()
        kernel = self.param("kernel", init, (x.shape[-1], 4), jnp.float32)
        return nn.sigmoid(matmul(x, kernel))
