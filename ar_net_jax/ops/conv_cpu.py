"""A convolution that is fast on CPU too, and so are its gradients.

There XLA runs a 1x1 convolution, and a larger one over a map of few pixels, slower than the matrix
product that it amounts to, by up to a half. It turns the kernel's gradient into a convolution
with batch and channels exchanged, which costs copies and runs at a tenth of that speed; inside a
loop it is slower still. So on CPU these are written as products. A 3x3 convolution of many channels
takes a quarter to a half less time by Winograd's way (`winograd.py`); but only where no gradient is
wanted: steps of ResNets in training won nothing by it, forward or back. The parameters do not
depend on the form, and programs for other platforms hold plain convolutions.

The thresholds below were measured over the layers of ResNets and of slim networks, with jaxlib
0.10.2: those of products on one core of an AMD EPYC with AVX2, Winograd's on two cores of an Intel
Xeon with AVX-512.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ar_net_jax.ops.depthwise import Padding
from ar_net_jax.ops.windows import positions, result_sides, strided
from ar_net_jax.ops.winograd import by_winograd

Array = jax.Array
Form = Callable[[Array, Array, int, Padding], Array]

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_CONTRACT_ROWS = (((0,), (0,)), ((), ()))
# Channels of the input from which on a 1x1 convolution is a product; and for larger kernels, output
# pixels of a map and channels of the input with which copying all patches pays.
_POINTWISE_CHANNELS = 64
_FEW_PIXELS, _MANY_CHANNELS = 64, 512
# Channels of a 3x3 kernel, in and out, and tiles of all maps, from which on Winograd's way pays;
# with fewer tiles, to transform the kernel costs what it saves.
_WINOGRAD_CHANNELS, _WINOGRAD_TILES = 64, 128
# A sum over the rows of two matrices runs at 10 to 30 GMAC/s, a product of rows and columns at 13
# to 35. From so many channels of the input on, the gradient is copied transposed for it, and every
# row of the kernel uses the copy. For 1x1 kernels nothing shares it: alone they gain by it, but a
# step of ResNet-50 took a tenth longer.
_TURN_GRADIENT = 16
# Output pixels whose products are summed at a time: few enough for the cache, enough for speed.
_PIXELS, _PIXELS_TURNED = 2048, 700


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
    form = _form_on_cpu(x, kernel, stride, padding)
    if _pays_by_winograd(x, kernel, stride, padding):
        form = _by_winograd
    return _where_on_cpu(form, x, kernel, stride, padding)


def _forward(
    x: Array, kernel: Array, stride: int, padding: Padding
) -> tuple[Array, tuple[Array, Array]]:
    form = _form_on_cpu(x, kernel, stride, padding)
    return _where_on_cpu(form, x, kernel, stride, padding), (x, kernel)


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


def by_convolution(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """`conv2d` as XLA's convolution."""
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=_LAYOUT)


def by_product(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """`conv2d` as one matrix product, whose rows are what the kernel sees of every pixel."""
    size, _, _, features = kernel.shape
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = (positions(side, size, stride) for side in x.shape[1:3])
    seen = jnp.concatenate(
        [
            strided(strided(x, 1, i, rows, stride), 2, j, columns, stride)
            for i in range(size)
            for j in range(size)
        ],
        axis=-1,
    )
    found = seen.reshape(-1, seen.shape[-1]) @ kernel.reshape(-1, features)
    return found.reshape(*seen.shape[:3], features)


def _by_winograd(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    del stride  # 1
    return by_winograd(x, kernel, padding)


def _where_on_cpu(form: Form, x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """A form of `conv2d` on CPU, a plain convolution elsewhere."""
    if form is by_convolution:
        return by_convolution(x, kernel, stride, padding)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: form(x, kernel, stride, padding),
        default=lambda x, kernel: by_convolution(x, kernel, stride, padding),
    )


def _form_on_cpu(x: Array, kernel: Array, stride: int, padding: Padding) -> Form:
    """The form that is the fastest on CPU, of the two that gradients have too."""
    if _is_pointwise(kernel, padding):
        return by_product if x.shape[-1] >= _POINTWISE_CHANNELS else by_convolution
    rows, columns = result_sides(x, kernel.shape[0], stride, padding)
    few = rows * columns <= _FEW_PIXELS and x.shape[-1] >= _MANY_CHANNELS
    return by_product if few else by_convolution


def _pays_by_winograd(x: Array, kernel: Array, stride: int, padding: Padding) -> bool:
    """Whether Winograd's way is faster on CPU; its sums need the digits of float32."""
    if kernel.shape[0] != 3 or stride != 1 or x.dtype.itemsize < 4:
        return False
    rows, columns = result_sides(x, kernel.shape[0], stride, padding)
    tiles = x.shape[0] * math.ceil(rows / 2) * math.ceil(columns / 2)
    return min(kernel.shape[2:]) >= _WINOGRAD_CHANNELS and tiles >= _WINOGRAD_TILES


def _is_pointwise(kernel: Array, padding: Padding) -> bool:
    return kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0))


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
    plain = partial(by_convolution, stride=stride, padding=padding)
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
    if _is_pointwise(kernel, padding):
        return _pointwise_gradients(x, kernel, grad, stride)
    return _input_gradient(x, kernel, grad, stride, padding), _kernel_gradient(
        x, kernel, grad, stride, padding
    )


def _pointwise_gradients(x: Array, kernel: Array, grad: Array, stride: int) -> tuple[Array, Array]:
    """Those of a 1x1 convolution: a pixel is a row of a matrix."""
    seen = x[:, ::stride, ::stride]
    by_pixel = grad.reshape(-1, grad.shape[-1])
    kernel_grad = _product_of_rows(seen.reshape(-1, x.shape[-1]), by_pixel)
    x_grad = (by_pixel @ kernel[0, 0].T).reshape(seen.shape)
    if stride > 1:
        rows, columns = (
            size - stride * (seen_size - 1) - 1
            for size, seen_size in zip(x.shape[1:3], seen.shape[1:3])
        )
        gaps = ((0, 0, 0), (0, rows, stride - 1), (0, columns, stride - 1), (0, 0, 0))
        x_grad = lax.pad(x_grad, jnp.zeros((), x_grad.dtype), gaps)
    return x_grad, kernel_grad[None, None].astype(kernel.dtype)


def _product_of_rows(left: Array, right: Array) -> Array:
    """[P, C] and [P, D] to the sum over P [C, D], in `_sum_type`."""
    kind = _sum_type(left)
    return lax.dot_general(left, right, _CONTRACT_ROWS, preferred_element_type=kind)


def _turned(matrix: Array) -> Array:
    """The transpose, behind a barrier: XLA would make it part of the product again."""
    return lax.optimization_barrier(matrix.T)


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
    none = ((0, 0), (0, 0))
    return _form_on_cpu(spread, turned, 1, none)(spread, turned, 1, none)


def _kernel_gradient(x: Array, kernel: Array, grad: Array, stride: int, padding: Padding) -> Array:
    """The sum over pixels of what the kernel saw times the gradient there, some images a time."""
    size, _, channels, features = kernel.shape
    height, width = grad.shape[1:3]
    turn, kind = channels >= _TURN_GRADIENT, _sum_type(x)
    group = _group(x.shape[0], height * width, _PIXELS_TURNED if turn else _PIXELS)

    def add(total: Array, images: tuple[Array, Array]) -> tuple[Array, None]:
        x, grad = images
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
        by_pixel = grad.reshape(-1, features)
        # The taps of a row side by side make one larger product of three small ones.
        row = jnp.concatenate([strided(x, 2, j, width, stride) for j in range(size)], axis=-1)
        seen = [
            strided(row, 1, i, height, stride).reshape(-1, size * channels) for i in range(size)
        ]
        if turn:
            by_feature = _turned(by_pixel)
            products = [jnp.matmul(by_feature, taps, preferred_element_type=kind) for taps in seen]
        else:
            products = [_product_of_rows(taps, by_pixel) for taps in seen]
        return total + jnp.stack(products), None

    def grouped(images: Array) -> Array:
        return images.reshape(-1, group, *images.shape[1:])

    sides = (features, size * channels) if turn else (size * channels, features)
    total, _ = lax.scan(add, jnp.zeros((size, *sides), kind), (grouped(x), grouped(grad)))
    by_taps = jnp.swapaxes(total, 1, 2) if turn else total
    return by_taps.reshape(kernel.shape).astype(kernel.dtype)


def _sum_type(x: Array) -> jnp.dtype:
    """Sums over pixels are at least float32."""
    return jnp.promote_types(x.dtype, jnp.float32)


def _group(images: int, pixels: int, enough: int) -> int:
    """Images a time: the fewest that reach `enough` pixels and divide their number."""
    divisors = (n for n in range(1, images + 1) if images % n == 0)
    return next((n for n in divisors if n * pixels >= enough), images)


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
