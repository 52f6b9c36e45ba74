"""A convolution with BatchNorm by known statistics, in the form that is fast where it runs.

XLA gives convolutions on NVIDIA's GPUs to cuDNN, which adds a bias, a shortcut and applies ReLU in
the same kernel, but knows no BatchNorm. So there its scale becomes part of the convolution's kernel
and the rest a bias; the raw result is neither written nor read again. And a convolution of few
channels with stride 2, as the first of a network, keeps a GPU's matrix units idle; squares of 2x2
pixels side by side are as many more channels for a kernel of half the side. ResNet-50 of 1,024
frames in bfloat16 took 43.9 ms on an H100 as it was, 32.7 with the first, 27.4 with both.

Elsewhere the compiler fuses BatchNorm with what stands beside it by itself. Where a gradient is
wanted the plain form is taken everywhere.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ar_net_jax.ops.conv_cpu import by_convolution, conv2d
from ar_net_jax.ops.depthwise import Padding
from ar_net_jax.ops.windows import result_sides

Array = jax.Array

_NO_PADDING = ((0, 0), (0, 0))
# Channels up to which, and sides of kernels for which, squares of pixels become channels.
_FEW_CHANNELS, _LARGE_KERNELS = 4, (5, 7)


class Norm(NamedTuple):
    """Of a BatchNorm, at least float32 [D]."""

    mean: Array
    variance: Array
    scale: Array
    bias: Array


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def normed_conv(
    x: Array, kernel: Array, norm: Norm, epsilon: float, stride: int, padding: Padding
) -> Array:
    """A convolution over rows and columns, normalised by known statistics.

    Args:
        x: [N, H, W, C].
        kernel: at least float32 [k, k, C, D].
        norm: of the result's channels.
        epsilon: added to the variance.
        stride: the same for rows and columns.
        padding: zeros before and after, for rows and for columns.

    Returns:
        [N, H', W', D] in the dtype of `x`.
    """
    how: dict[str, Any] = {"epsilon": epsilon, "stride": stride, "padding": padding}
    return lax.platform_dependent(
        x, kernel, norm, cuda=partial(folded, **how), default=partial(plain, **how)
    )


def _forward(
    x: Array, kernel: Array, norm: Norm, epsilon: float, stride: int, padding: Padding
) -> tuple[Array, Any]:
    run = partial(plain, epsilon=epsilon, stride=stride, padding=padding)
    return jax.vjp(run, x, kernel, norm)


def _backward(
    epsilon: float, stride: int, padding: Padding, pull: Any, grad: Array
) -> tuple[Array, Array, Norm]:
    del epsilon, stride, padding
    gradients: tuple[Array, Array, Norm] = pull(grad)
    return gradients


normed_conv.defvjp(_forward, _backward)


def plain(
    x: Array, kernel: Array, norm: Norm, epsilon: float, stride: int, padding: Padding
) -> Array:
    """`normed_conv` as a convolution and a BatchNorm."""
    y = conv2d(x, kernel.astype(x.dtype), stride, padding)
    factor = lax.rsqrt(norm.variance + epsilon) * norm.scale
    return ((y - norm.mean) * factor + norm.bias).astype(x.dtype)


def folded(
    x: Array, kernel: Array, norm: Norm, epsilon: float, stride: int, padding: Padding
) -> Array:
    """`normed_conv` as a convolution and a bias, of the dtype of `x` both."""
    factor = lax.rsqrt(norm.variance + epsilon) * norm.scale
    kernel = (kernel * factor).astype(x.dtype)
    if stride == 2 and x.shape[-1] <= _FEW_CHANNELS and kernel.shape[0] in _LARGE_KERNELS:
        y = _of_squares(x, kernel, padding)
    else:
        y = by_convolution(x, kernel, stride, padding)
    # In another dtype XLA would not make it part of cuDNN's kernel.
    return y + (norm.bias - norm.mean * factor).astype(x.dtype)


def _of_squares(x: Array, kernel: Array, padding: Padding) -> Array:
    """A convolution of odd side with stride 2 as one with stride 1 over squares of 2x2 pixels."""
    sides = result_sides(x, kernel.shape[0], 2, padding)
    # XLA would make one slow kernel of a resize and this. Kept apart, AR-Net on 64 videos, at half
    # and at a quarter of Uniform's GFLOPs, took 26.0 and 18.1 ms on an H100 for 27.0 and 20.0.
    x = lax.optimization_barrier(x)
    x, kernel = _with_channels(x, 3), _with_channels(kernel, 2)
    kernel = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    half, channels = kernel.shape[0] // 2, kernel.shape[2]
    pads = [(0, 0)]
    for had, (before, _), wanted in zip(x.shape[1:3], padding, sides, strict=True):
        # As many whole squares as the kernel visits, of which the last begins `half` earlier.
        pads.append((before, 2 * (wanted - 1 + half) - had - before))
    x = _squares(jnp.pad(x, (*pads, (0, 0))))
    kernel = kernel.reshape(half, 2, half, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    return by_convolution(x, kernel.reshape(half, half, 4 * channels, -1), 1, _NO_PADDING)


def _squares(x: Array) -> Array:
    """[N, H, W, C] to [N, H / 2, W / 2, 4 C]."""
    n, rows, columns, channels = x.shape
    x = x.reshape(n, rows // 2, 2, columns // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, rows // 2, columns // 2, 4 * channels)


def _with_channels(x: Array, axis: int) -> Array:
    """With zeros up to `_FEW_CHANNELS` channels: squares of them fill a matrix unit's step."""
    pads = [(0, 0)] * x.ndim
    pads[axis] = (0, _FEW_CHANNELS - x.shape[axis])
    return jnp.pad(x, pads)
