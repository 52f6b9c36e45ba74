"""A convolution whose gradients are fast on CPU too.

XLA turns the kernel's gradient into a convolution with batch and channels exchanged, which on CPU
costs copies and runs at a tenth of the speed of a matrix product; inside a loop it is slower still.
There both gradients are written out. The parameters do not depend on the form.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ar_net_jax.ops.depthwise import Padding

Array = jax.Array

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_CONTRACT_ROWS = (((0,), (0,)), ((), ()))
# Output pixels whose products are summed at a time: few enough for the cache, enough for speed.
_PIXELS = 2048


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """A convolution over rows and columns.

    Args:
        x: [N, H, W, C].
        kernel: [k, k, C, D], of the dtype of `x`.
        stride: the same for rows and columns.
        padding: zeros before and after, for rows and for columns.

    Returns:
        [N, H', W', D] in the dtype of `x`.
    """
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=_LAYOUT)


def _forward(
    x: Array, kernel: Array, stride: int, padding: Padding
) -> tuple[Array, tuple[Array, Array]]:
    return conv2d(x, kernel, stride, padding), (x, kernel)


def _backward(
    stride: int, padding: Padding, saved: tuple[Array, Array], grad: Array
) -> tuple[Array, Array]:
    return lax.platform_dependent(
        *saved,
        grad,
        cpu=partial(gradients_by_products, stride=stride, padding=padding),
        default=partial(gradients_by_convolutions, stride=stride, padding=padding),
    )


conv2d.defvjp(_forward, _backward)


def gradients_by_convolutions(
    x: Array, kernel: Array, grad: Array, stride: int, padding: Padding
) -> tuple[Array, Array]:
    """XLA's own gradients of `conv2d` with respect to `x` and `kernel`.

    Args:
        x: [N, H, W, C], the input of the convolution.
        kernel: [k, k, C, D].
        grad: [N, H', W', D], the gradient of its result.
        stride: of the convolution.
        padding: of the convolution.
    """
    plain = partial(
        lax.conv_general_dilated,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=_LAYOUT,
    )
    # A transpose, where jax.vjp would trace the convolution itself once more.
    (x_grad,) = jax.linear_transpose(lambda x: plain(x, kernel), x)(grad)
    (kernel_grad,) = jax.linear_transpose(lambda kernel: plain(x, kernel), kernel)(grad)
    return x_grad, kernel_grad


def gradients_by_products(
    x: Array, kernel: Array, grad: Array, stride: int, padding: Padding
) -> tuple[Array, Array]:
    """The gradients of `conv2d` as matrix products and a plain convolution.

    Args and result as in `gradients_by_convolutions`.
    """
    if kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0)):
        return _pointwise_gradients(x, kernel, grad, stride)
    return _input_gradient(x, kernel, grad, stride, padding), _kernel_gradient(
        x, kernel, grad, stride, padding
    )


def _pointwise_gradients(x: Array, kernel: Array, grad: Array, stride: int) -> tuple[Array, Array]:
    """Those of a 1x1 convolution: a pixel is a row of a matrix."""
    seen = x[:, ::stride, ::stride]
    by_pixel = grad.reshape(-1, grad.shape[-1])
    kernel_grad = lax.dot_general(
        seen.reshape(-1, x.shape[-1]),
        by_pixel,
        _CONTRACT_ROWS,
        preferred_element_type=_sum_type(x),
    )
    x_grad = (by_pixel @ kernel[0, 0].T).reshape(seen.shape)
    if stride > 1:
        rows, columns = (
            size - stride * (seen_size - 1) - 1
            for size, seen_size in zip(x.shape[1:3], seen.shape[1:3])
        )
        gaps = ((0, 0, 0), (0, rows, stride - 1), (0, columns, stride - 1), (0, 0, 0))
        x_grad = lax.pad(x_grad, jnp.zeros((), x_grad.dtype), gaps)
    return x_grad, kernel_grad[None, None].astype(kernel.dtype)


def _input_gradient(x: Array, kernel: Array, grad: Array, stride: int, padding: Padding) -> Array:
    """The gradient, its pixels `stride` apart, under the kernel turned around."""
    size = kernel.shape[0]
    gaps = [(0, 0, 0)]
    for axis in (1, 2):
        before = size - 1 - padding[axis - 1][0]
        reached = stride * (grad.shape[axis] - 1) + 1
        gaps.append((before, x.shape[axis] + size - 1 - reached - before, stride - 1))
    spread = lax.pad(grad, jnp.zeros((), grad.dtype), (*gaps, (0, 0, 0)))
    turned = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    return lax.conv_general_dilated(spread, turned, (1, 1), "VALID", dimension_numbers=_LAYOUT)


def _kernel_gradient(x: Array, kernel: Array, grad: Array, stride: int, padding: Padding) -> Array:
    """The sum over pixels of what the kernel saw times the gradient there, some images a time."""
    size, _, channels, features = kernel.shape
    height, width = grad.shape[1:3]
    group = _group(x.shape[0], height * width)

    def add(total: Array, images: tuple[Array, Array]) -> tuple[Array, None]:
        x, grad = images
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
        last = stride * (width - 1) + 1
        # The taps of a row side by side make one larger product of three small ones.
        taps = [lax.slice_in_dim(x, j, j + last, stride, axis=2) for j in range(size)]
        row = jnp.concatenate(taps, axis=-1)
        products = []
        for i in range(size):
            seen = lax.slice_in_dim(row, i, i + stride * (height - 1) + 1, stride, axis=1)
            products.append(
                lax.dot_general(
                    seen.reshape(-1, size * channels),
                    grad.reshape(-1, features),
                    _CONTRACT_ROWS,
                    preferred_element_type=_sum_type(x),
                ).reshape(size, channels, features)
            )
        return total + jnp.stack(products), None

    def grouped(images: Array) -> Array:
        return images.reshape(-1, group, *images.shape[1:])

    groups = grouped(x), grouped(grad)
    total, _ = lax.scan(add, jnp.zeros(kernel.shape, _sum_type(x)), groups)
    return total.astype(kernel.dtype)


def _sum_type(x: Array) -> jnp.dtype:
    """Sums over pixels are at least float32."""
    return jnp.promote_types(x.dtype, jnp.float32)


def _group(images: int, pixels: int) -> int:
    """Images a time: the fewest that reach `_PIXELS` and divide their number."""
    divisors = (n for n in range(1, images + 1) if images % n == 0)
    return next((n for n in divisors if n * pixels >= _PIXELS), images)


def flax_convolution(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: Any,
    **unused: Any,
) -> Array:
    """`conv2d` under the signature that `nn.Conv` calls its convolution with."""
    del unused
    return conv2d(lhs, rhs, window_strides[0], tuple(tuple(side) for side in padding))
