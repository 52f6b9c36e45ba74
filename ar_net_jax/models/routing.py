"""Masked routing: every backbone on every frame, weighted by the decisions.

This is the differentiable form that training needs: the gradient of the video's logits reaches the
policy through the one-hot weights.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def masked_average(frame_logits: Array, weights: Array) -> Array:
    """The average prediction over the frames that are kept.

    Args:
        frame_logits: float32 [B, T, L, C], every resolution's prediction on every frame.
        weights: float32 [B, T, L], the one-hot decisions restricted to resolutions; the row of a
            skipped frame, or of padding, is zero.

    Returns:
        logits float32 [B, C]: the sum over kept frames divided by max(1, number of kept frames),
        so zeros for a video of which every frame is skipped.
    """
    highest = jax.lax.Precision.HIGHEST
    total = jnp.einsum("btlc,btl->bc", frame_logits, weights, precision=highest)
    kept = jnp.sum(weights, axis=(1, 2))
    # Not `maximum`: at exactly one kept frame that would halve the gradient of the count.
    return total / jnp.where(kept > 0.5, kept, 1.0)[:, None]
