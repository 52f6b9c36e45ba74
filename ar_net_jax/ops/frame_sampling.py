"""Which frames of a video are taken: evenly spread ones, or more where weights are larger."""

import jax
import jax.numpy as jnp

Array = jax.Array


def spread_frames(lengths: Array, count: int, jitter: Array | float = 0.5) -> tuple[Array, Array]:
    """One frame from each of equal parts of a video, all of a video that has no more.

    Args:
        lengths: int32 [B], n, of the videos.
        count: how many frames.
        jitter: where in its part, from 0 to 1: a number, or float32 [B, count].

    Returns:
        int32 [B, count] in ascending order, and bool [B, count], False where there is none.
    """
    number = jnp.minimum(lengths, count)[:, None]
    place = jnp.arange(count)
    index = jnp.floor((place + jitter) * lengths[:, None] / jnp.maximum(number, 1))
    there = place < number
    # Rounding may reach the end.
    last = jnp.maximum(lengths - 1, 0)[:, None]
    return jnp.where(there, jnp.minimum(index.astype(jnp.int32), last), 0), there


def weighted_frames(
    weights: Array, lengths: Array, count: int, jitter: Array | float = 0.5
) -> tuple[Array, Array]:
    """Different frames of a video, dense where its weights are large: by the inverse distribution.

    The video is divided into as many equal parts as it has weights, its density constant in each.
    Frame k stands where the cumulated density reaches (k + jitter) / count; one that is taken
    already gives way to the next.

    Args:
        weights: float32 [B, G], not negative, of sum 1; zero beyond min(n, G) parts.
        lengths: int32 [B], n, of the videos.
        count: how many frames; all of a video that has fewer.
        jitter: as in `spread_frames`.

    Returns:
        As `spread_frames`.
    """
    parts = jnp.minimum(lengths, weights.shape[1])[:, None]
    number, place = jnp.minimum(lengths, count)[:, None], jnp.arange(count)
    reached = jnp.cumsum(weights, axis=1)
    wanted = (place + jitter) / jnp.maximum(number, 1)
    part = jnp.sum(reached[:, None] < wanted[..., None], axis=-1)
    part = jnp.minimum(part, jnp.maximum(parts - 1, 0))
    weight = jnp.take_along_axis(weights, part, axis=1)
    before = jnp.take_along_axis(reached, part, axis=1) - weight
    within = jnp.clip((wanted - before) / jnp.maximum(weight, 1e-12), 0.0, 1.0)
    index = jnp.floor((part + within) / jnp.maximum(parts, 1) * lengths[:, None]).astype(jnp.int32)
    # The next that is free: i_k = max(i_k, i_(k-1) + 1), and as many are left as are to come.
    index = jax.lax.cummax(index - place, axis=1) + place
    index = jnp.minimum(index, lengths[:, None] - number + place)
    there = place < number
    return jnp.where(there, index, 0), there


def take_frames(frames: Array, index: Array) -> Array:
    """Frames [B, K, ...] of videos [B, T, ...], by their places int32 [B, K]."""
    return jax.vmap(lambda video, places: jnp.take(video, places, axis=0))(frames, index)


def expected_average(rows: Array, weights: Array, noise: Array, most: int) -> Array:
    """The expected average of rows drawn without replacement, each with its weight's chance.

    Of each of M draws, the expectation of the next row given those before is exact, and its
    gradient reaches the weights; which rows come before is drawn, by `noise`, without a gradient.

    Args:
        rows: float32 [B, G, C].
        weights: float32 [B, G], of sum 1.
        noise: float32 [B, M, G], standard Gumbel noise.
        most: how many rows are averaged.

    Returns:
        float32 [B, C].
    """
    logs = jnp.log(jnp.maximum(jax.lax.stop_gradient(weights), 1e-30))
    # The Gumbel top-k trick: this order is that of drawing one after the other.
    order = jnp.argsort(-(logs[:, None] + noise), axis=-1)
    rank = jnp.argsort(order, axis=-1)
    left = rank[:, :, None] >= jnp.arange(most)[:, None]
    chance = jnp.where(left, weights[:, None, None], 0.0)
    total = jax.lax.stop_gradient(jnp.sum(chance, axis=-1, keepdims=True))
    share = jnp.mean(chance / jnp.maximum(total, 1e-30), axis=(1, 2))
    return jnp.einsum("bg,bgc->bc", share, rows, precision=jax.lax.Precision.HIGHEST)
