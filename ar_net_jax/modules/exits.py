"""What may end a video early: a classifier and a gate for each place in the order of its frames."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.backbones.layers import batch_norm
from ar_net_jax.config.model import HEAD_WIDTH
from ar_net_jax.modules.heads import matmul

Array = jax.Array

GATE_WIDTHS = (128, 64)
"""Units of a gate's two layers."""


def gate_macs() -> int:
    """Multiply-accumulates of one call of a gate: its layers on two maxima, and its last unit."""
    first, second = GATE_WIDTHS
    return 2 * (HEAD_WIDTH * first + first * second) + 2 * second


class Gate(nn.Module):
    """Whether to go on, from the maximum before the newest frame and with it.

    The same two layers, each a product with BatchNorm and ReLU, read both maxima; one unit reads
    what they make of the two. It starts at 0 whatever it sees.
    """

    @nn.compact
    def __call__(self, before: Array, now: Array, *, train: bool = False) -> Array:
        """The logit of going on.

        Args:
            before: float32 [B, HEAD_WIDTH].
            now: float32 [B, HEAD_WIDTH].
            train: normalise by the batch and update the running statistics.

        Returns:
            float32 [B].
        """
        x = jnp.stack([before, now])
        for i, units in enumerate(GATE_WIDTHS):
            init = nn.initializers.he_normal()
            kernel = self.param(f"kernel_{i}", init, (x.shape[-1], units), jnp.float32)
            x = batch_norm(train=train, dtype=jnp.float32, name=f"norm_{i}")(matmul(x, kernel))
            x = nn.relu(x)
        both = jnp.concatenate([x[0], x[1]], axis=-1)
        zeros = nn.initializers.zeros
        kernel = self.param("kernel", zeros, (both.shape[-1], 1), jnp.float32)
        return (matmul(both, kernel) + self.param("bias", zeros, (1,), jnp.float32))[:, 0]


def confidence_logit(logits: Array, threshold: float) -> Array:
    """The logit of going on by the plain rule: above 0 while confidence is below the threshold.

    Args:
        logits: float32 [B, C], of a classifier; its confidence is the largest probability.
        threshold: between 0 and 1.

    Returns:
        float32 [B]: the log-odds of the threshold less those of the confidence.
    """
    log_probability = jax.nn.log_softmax(logits)
    best = jnp.argmax(logits, axis=-1)[:, None]
    chosen = jax.nn.one_hot(best[:, 0], logits.shape[-1], dtype=bool)
    confident = jnp.take_along_axis(log_probability, best, axis=-1)[:, 0]
    # Of the other classes together, which keeps its digits where the confidence is near 1.
    others = jax.nn.logsumexp(jnp.where(chosen, -jnp.inf, log_probability), axis=-1)
    return jnp.log(threshold) - jnp.log1p(-threshold) - (confident - others)
