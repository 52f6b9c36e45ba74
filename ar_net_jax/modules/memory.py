"""A memory of a video: features of frames spread over it, and where to look in it by attention."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

# Wavelengths of the position encoding go from 2 pi to this many times 2 pi.
_LONGEST = 10_000.0


@flax.struct.dataclass
class Memory:
    """What is remembered of B videos.

    Attributes:
        slots: float32 [B, M, D].
        used: bool [B, M], False on slots that hold nothing; every video has one that is used.
    """

    slots: Array
    used: Array


def spread_places(counts: Array, slots: int) -> tuple[Array, Array]:
    """Frames spread evenly over videos: the middles of M equal parts.

    Args:
        counts: int32 [B], how many frames each video has, at least 1.
        slots: M.

    Returns:
        Their places int32 [B, M], and which of them count, bool [B, M]: a video of fewer frames
        than M has each of them once, in its first slots.
    """
    parts = jnp.minimum(counts, slots)[:, None]
    places = (2 * jnp.arange(slots) + 1) * counts[:, None] // (2 * parts)
    places = jnp.minimum(places, counts[:, None] - 1).astype(jnp.int32)
    return places, jnp.arange(slots) < parts


def position_encoding(length: int, width: int) -> np.ndarray:
    """Sinusoidal encoding of positions (Vaswani et al. 2017, Section 3.5).

    Args:
        length: M, the number of positions.
        width: D.

    Returns:
        float32 [M, D]: sines in the even columns, cosines of the same wavelengths in the odd ones.
    """
    pair = np.arange(width) // 2
    angles = np.arange(length)[:, None] / _LONGEST ** (2 * pair / width)
    return np.where(np.arange(width) % 2, np.cos(angles), np.sin(angles)).astype(np.float32)


def attend(query: Array, memory: Memory) -> Array:
    """The average of a memory's slots, weighted by the softmax of their products with a query.

    Args:
        query: float32 [B, D].
        memory: of D entries a slot.

    Returns:
        float32 [B, D].
    """
    highest = jax.lax.Precision.HIGHEST
    scores = jnp.einsum("bd,bmd->bm", query, memory.slots, precision=highest)
    weights = jax.nn.softmax(jnp.where(memory.used, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bm,bmd->bd", weights, memory.slots, precision=highest)
