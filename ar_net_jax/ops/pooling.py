"""Element-wise maxima over the frames of a video, for classifiers that pool before they predict.

Embeddings come out of a ReLU, so zero is the neutral element: a frame that was left out, or that
the sparse form did not compute, has a row of zeros and changes no maximum.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def maximum_over_frames(rows: Array) -> Array:
    """The maximum over frames, whose gradient goes to the first frame that attains it.

    JAX's own maximum shares the gradient among the frames that equal it, and divides by their
    number. Compiled programs may compute the rows once for the maximum and again for the
    comparison, fused and rounded otherwise; then no frame equals it, and 0 / 0 is no number.

    Args:
        rows: float32 [B, T, W].

    Returns:
        float32 [B, W].
    """
    place = jax.lax.broadcasted_iota(jnp.int32, rows.shape, 1)
    first = jax.lax.stop_gradient(jnp.argmax(rows, axis=1, keepdims=True))
    return jnp.sum(jnp.where(place == first, rows, 0.0), axis=1)


def kept_maximum(embeddings: Array, weights: Array) -> Array:
    """The maximum over the frames that are kept, each seen by the networks that it was given to.

    A frame's own row is the weighted sum over networks, so the gradient of a maximum reaches the
    decision about the frame that attains it, for the networks that it was not given to as well.

    Args:
        embeddings: float32 [B, T, L, W], not negative, every network's on every frame.
        weights: float32 [B, T, L], the one-hot decisions restricted to networks, or ones for a
            frame that several see, which are then averaged; zero where a frame is left out.

    Returns:
        float32 [B, W], zeros for a video of which no frame is kept.
    """
    highest = jax.lax.Precision.HIGHEST
    rows = jnp.einsum("btlw,btl->btw", embeddings, weights, precision=highest)
    seen = jax.lax.stop_gradient(jnp.sum(weights, axis=2, keepdims=True))
    return maximum_over_frames(rows / jnp.where(seen > 1.5, seen, 1.0))


def running_maximum(embeddings: Array, mask: Array) -> Array:
    """The maximum over the frames so far, after each frame.

    Args:
        embeddings: float32 [B, T, W], not negative.
        mask: bool [B, T], False on frames that add nothing.

    Returns:
        float32 [B, T, W].
    """
    return jax.lax.cummax(jnp.where(mask[..., None], embeddings, 0.0), axis=1)
