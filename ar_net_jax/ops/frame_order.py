"""The order in which a method that may stop early looks at the frames of a video."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


@functools.cache
def coarse_to_fine(length: int) -> tuple[int, ...]:
    """The middle of a video, its ends, then the middle of whatever gap is widest.

    Of equally wide gaps the one nearest the middle comes first, and of two as near the earlier; a
    middle between two frames is the even one. For ten frames that is FrameExit's order, which
    AdaFocusV2 has too: 5, 0, 9, 2, 7, 4, 6, 3, 8, 1. It is published for ten alone, so for other
    lengths this rule is a reconstruction.

    Args:
        length: T, at least 1.

    Returns:
        A permutation of 0 to T - 1.

    >>> coarse_to_fine(5)
    (2, 0, 4, 1, 3)
    """
    middle = length // 2
    order = list(dict.fromkeys((middle, 0, length - 1)))
    while len(order) < length:
        places = sorted(order)
        gaps = [(low, high) for low, high in zip(places, places[1:]) if high - low > 1]
        # Python rounds halves to even.
        middles = [(high - low, round((low + high) / 2)) for low, high in gaps]
        _, place = max(middles, key=lambda gap: (gap[0], -abs(gap[1] - middle), -gap[1]))
        order.append(place)
    return tuple(order)


def coarse_to_fine_of_each(mask: Array) -> Array:
    """That order for each video by itself, as if it had no padding; its padding comes last.

    Args:
        mask: bool [B, T], False on padding, which is at the end.

    Returns:
        int32 [B, T], a permutation of 0 to T - 1 for every video.
    """
    total = mask.shape[1]
    table = [(*coarse_to_fine(n), *range(n, total)) for n in range(1, total + 1)]
    return jnp.array(table, jnp.int32)[jnp.maximum(jnp.sum(mask, axis=1), 1) - 1]


def back_in_time(order: tuple[int, ...]) -> np.ndarray:
    """Where in an order each frame stands, int32 [T]: takes what is in that order back to time."""
    return np.argsort(np.array(order)).astype(np.int32)
