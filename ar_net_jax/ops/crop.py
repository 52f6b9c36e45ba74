"""Square pieces cut out of frames at places that need not be whole pixels, with a gradient.

A piece is W_y I W_x^T, two interpolation matrices per frame: matrix products, which accelerators
are fast at, and which are differentiable in the place and in the image.
"""

import jax
import jax.numpy as jnp

Array = jax.Array

_PLACES_SALT = 2_001


def bilinear_matrix(start: Array, side: Array, size: int, source: int) -> Array:
    """What takes a line of pixels to a piece of it, by linear interpolation between neighbours.

    Sample i stands at start + (i + 1/2) side / size - 1/2, that is at the middle of the i-th of
    `size` equal parts of the piece; beyond the line's ends its last pixel is repeated. A piece that
    is shrunk is not smoothed first.

    Args:
        start: float32 [N], where the piece begins, in pixels.
        side: float32 [N], how long it is.
        size: samples of the result.
        source: pixels of the line.

    Returns:
        float32 [N, size, source], rows that sum to 1.
    """
    middle = jnp.arange(size, dtype=start.dtype) + 0.5
    place = start[:, None] + middle * (side / size)[:, None] - 0.5
    place = jnp.clip(place, 0.0, source - 1.0)
    return jnp.maximum(1.0 - jnp.abs(place[..., None] - jnp.arange(source)), 0.0)


def crop(images: Array, box: Array, size: int) -> Array:
    """Cuts a box out of each image, as large as wanted.

    Args:
        images: [N, H, W, C] of any real type.
        box: float32 [N, 4], top, left, height and width in pixels.
        size: side of the result.

    Returns:
        float32 [N, size, size, C].
    """
    _, height, width, _ = images.shape
    rows = bilinear_matrix(box[:, 0], box[:, 2], size, height)
    columns = bilinear_matrix(box[:, 1], box[:, 3], size, width)
    highest = jax.lax.Precision.HIGHEST
    images = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    x = jnp.einsum("niy,nyxc->nixc", rows, images, precision=highest)
    return jnp.einsum("njx,nixc->nijc", columns, x, precision=highest)


def random_places(keys: Array, length: int, count: int) -> Array:
    """Places drawn uniformly from 0 to 1, for each frame of B videos.

    Args:
        keys: one typed PRNG key per video [B].
        length: T.
        count: numbers per frame.

    Returns:
        float32 [B, T, count].
    """

    def draw(key: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(key, _PLACES_SALT), (length, count))

    return jax.vmap(draw)(keys)
