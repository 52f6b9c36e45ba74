"""3x3 convolutions of stride 1 with 4 multiplications for 9: Winograd's minimal filtering.

A tile of 4 x 4 pixels, transformed, times the kernel, transformed, is a tile of 2 x 2 results,
transformed: F(2x2, 3x3) of Lavin and Gray 2016 (https://arxiv.org/abs/1509.09308), whose names the
matrices carry. The transforms are additions; the products over channels are 16 matrix products over
all tiles. In float32 it is as exact as the plain form, to about 1e-6 of the largest result.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from ar_net_jax.ops.depthwise import Padding
from ar_net_jax.ops.windows import result_sides, strided

Array = jax.Array
Matrix = tuple[tuple[float, ...], ...]
Grid = list[list[Array]]

_BT: Matrix = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_G: Matrix = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_AT: Matrix = ((1, 1, 1, 0), (0, 1, -1, -1))
# Numbers of maps that are transformed at a time. With 2**18, and with 2**22 and more, most layers
# of ResNets on 8 to 32 frames took longer (two cores of an Intel Xeon).
_AT_ONCE = 2**20


def by_winograd(x: Array, kernel: Array, padding: Padding) -> Array:
    """A convolution of stride 1.

    Args:
        x: [N, H, W, C].
        kernel: [3, 3, C, D], of the dtype of `x`.
        padding: zeros before and after, for rows and for columns.

    Returns:
        [N, H', W', D] in the dtype of `x`.
    """
    transformed = [_mixed(_G, list(row)) for row in _mixed(_G, list(kernel))]

    def convolve(x: Array) -> Array:
        height, width = result_sides(x, 3, 1, padding)
        products = [
            [pixels @ weights for pixels, weights in zip(*rows, strict=True)]
            for rows in zip(_input_tiles(x, padding), transformed, strict=True)
        ]
        return _from_tiles(products, (x.shape[0], height, width))

    images = x.shape[0]
    groups = _in_groups(x, kernel.shape[3])
    if groups.shape[0] == 1:
        return convolve(x)
    found = lax.map(convolve, groups)
    return found.reshape(-1, *found.shape[2:])[:images]


def _in_groups(x: Array, features: int) -> Array:
    """[N, H, W, C] as [groups, images, H, W, C] of `_AT_ONCE`; the last is filled up."""
    images, height, width, channels = x.shape
    fitting = max(1, _AT_ONCE // (height * width * max(channels, features)))
    count = math.ceil(images / fitting)
    each = math.ceil(images / count)
    x = jnp.pad(x, ((0, count * each - images), (0, 0), (0, 0), (0, 0)))
    return x.reshape(count, each, height, width, channels)


def _input_tiles(x: Array, padding: Padding) -> Grid:
    """B'dB of all tiles: 4 x 4 arrays [tiles, C]."""
    sides = result_sides(x, 3, 1, padding)
    tiles = [math.ceil(side / 2) for side in sides]
    filled = [
        (before, after + side % 2) for (before, after), side in zip(padding, sides, strict=True)
    ]
    x = jnp.pad(x, ((0, 0), *filled, (0, 0)))
    rows = _mixed(_BT, [strided(x, 1, i, tiles[0], 2) for i in range(4)])
    # Otherwise XLA computes a row again for each of its four columns.
    rows = lax.optimization_barrier(rows)
    grid = [_mixed(_BT, [strided(row, 2, j, tiles[1], 2) for j in range(4)]) for row in rows]
    return [[tile.reshape(-1, x.shape[3]) for tile in row] for row in grid]


def _from_tiles(products: Grid, shape: tuple[int, int, int]) -> Array:
    """A'mA of all tiles, in their places: [N, H, W, D] for N, H and W."""
    images, height, width = shape
    tiles = [math.ceil(height / 2), math.ceil(width / 2)]
    columns = zip(*(_mixed(_AT, row) for row in products), strict=True)
    finished = zip(*(_mixed(_AT, column) for column in columns), strict=True)
    placed = [
        [tile.reshape(images, tiles[0], 1, tiles[1], 1, -1) for tile in row] for row in finished
    ]
    rows = [jnp.concatenate(pair, axis=4) for pair in placed]
    whole = jnp.concatenate(rows, axis=2).reshape(images, 2 * tiles[0], 2 * tiles[1], -1)
    return whole[:, :height, :width]


def _mixed(matrix: Matrix, parts: Sequence[Array]) -> list[Array]:
    """A matrix times a column of arrays, without the zeros."""
    return [_combined(row, parts) for row in matrix]


def _combined(factors: Sequence[float], parts: Sequence[Array]) -> Array:
    scaled = [
        part if factor == 1 else -part if factor == -1 else factor * part
        for factor, part in zip(factors, parts, strict=True)
        if factor
    ]
    return sum(scaled[1:], start=scaled[0])
