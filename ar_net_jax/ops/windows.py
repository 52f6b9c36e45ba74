"""Where the window of a convolution fits, and what of an array it meets there."""

import jax
from jax import lax

from ar_net_jax.ops.depthwise import Padding

Array = jax.Array


def positions(side: int, size: int, stride: int) -> int:
    """Where a window of `size` fits along a padded side, in steps of `stride`."""
    return (side - size) // stride + 1


def result_sides(x: Array, size: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Rows and columns of what a convolution makes of [N, H, W, C].

    Args:
        x: its input, not padded.
        size: of the kernel, rows and columns alike.
        stride: of the kernel.
        padding: zeros before and after, for rows and for columns.
    """
    rows, columns = (
        positions(side + sum(zeros), size, stride)
        for side, zeros in zip(x.shape[1:3], padding, strict=True)
    )
    return rows, columns


def strided(x: Array, axis: int, first: int, count: int, stride: int) -> Array:
    """`count` elements along an axis, `stride` apart."""
    return lax.slice_in_dim(x, first, first + stride * (count - 1) + 1, stride, axis=axis)
