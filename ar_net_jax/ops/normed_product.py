"""A pointwise convolution with BatchNorm in training, in the form that is fast where it runs.

The product's mean and variance over pixels follow from the moments of what it multiplies. Known
before the product, they become part of the kernel; the raw product is neither written nor read
again, once by BatchNorm and three times by its gradient. A TPU is bound by that traffic. A CPU is
bound by arithmetic, of which the moments need more; there, and on GPUs, where this was not
measured, the product comes first.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ar_net_jax.ops.conv_cpu import conv2d

Array = jax.Array

_NO_PADDING = ((0, 0), (0, 0))
_EXACT = lax.Precision.HIGHEST


class Inputs(NamedTuple):
    """The arrays that `normed_product` takes, see there."""

    x: Array
    kernel: Array
    scale: Array
    bias: Array
    mask: Array | None


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def normed_product(
    x: Array, kernel: Array, scale: Array, bias: Array, mask: Array | None, epsilon: float
) -> tuple[Array, Array, Array]:
    """A pointwise convolution, normalised by the batch.

    Args:
        x: [N, H, W, C].
        kernel: at least float32 [1, 1, C, D], like `scale` and `bias`.
        scale: [D].
        bias: [D].
        mask: as in `moments`.
        epsilon: added to the variance.

    Returns:
        [N, H, W, D] in the type of `x`; mean and variance of the product, at least float32 [D],
        through which no gradient goes.
    """
    return _forward(x, kernel, scale, bias, mask, epsilon)[0]


def _forward(
    x: Array, kernel: Array, scale: Array, bias: Array, mask: Array | None, epsilon: float
) -> tuple[tuple[Array, Array, Array], tuple[Inputs, Array, Array, Array]]:
    inputs = Inputs(x, kernel, scale, bias, mask)
    y, mean, variance, raw = lax.platform_dependent(
        inputs,
        tpu=partial(moments_first, epsilon=epsilon),
        default=partial(product_first, epsilon=epsilon),
    )
    return (y, mean, variance), (inputs, mean, variance, raw)


def _backward(
    epsilon: float,
    saved: tuple[Inputs, Array, Array, Array],
    grads: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array, Array, None]:
    x, kernel, scale, bias = lax.platform_dependent(
        *saved,
        grads[0],
        tpu=partial(gradients_through_moments, epsilon=epsilon),
        default=partial(gradients_of_product, epsilon=epsilon),
    )
    return x, kernel, scale, bias, None


normed_product.defvjp(_forward, _backward)


def product_first(inputs: Inputs, epsilon: float) -> tuple[Array, Array, Array, Array]:
    """The product, its moments, then BatchNorm.

    Returns:
        Those of `normed_product`, and the product as it was.
    """
    x, kernel, scale, bias, mask = inputs
    raw = conv2d(x, kernel.astype(x.dtype), 1, _NO_PADDING)
    mean, variance = moments(raw, mask)
    y = (raw - mean) * (lax.rsqrt(variance + epsilon) * scale) + bias
    return y.astype(x.dtype), mean, variance, raw


def gradients_of_product(
    inputs: Inputs, mean: Array, variance: Array, raw: Array, grad: Array, epsilon: float
) -> tuple[Array, Array, Array, Array]:
    """Those of `product_first` with respect to x, kernel, scale and bias."""
    x, kernel, scale, _, mask = inputs
    grad = grad.astype(mean.dtype)
    inverse = lax.rsqrt(variance + epsilon)
    normed = (raw - mean) * inverse
    bias_grad = jnp.sum(grad, (0, 1, 2))
    scale_grad = jnp.sum(grad * normed, (0, 1, 2))
    through = (bias_grad + normed * scale_grad) / _count(x, mask)
    through = through if mask is None else jnp.where(mask, through, 0)
    raw_grad = ((grad - through) * (inverse * scale)).astype(x.dtype)
    _, pull = jax.vjp(
        lambda x, kernel: conv2d(x, kernel, 1, _NO_PADDING), x, kernel.astype(x.dtype)
    )
    x_grad, kernel_grad = pull(raw_grad)
    return x_grad, kernel_grad.astype(kernel.dtype), scale_grad, bias_grad


def moments_first(inputs: Inputs, epsilon: float) -> tuple[Array, Array, Array, Array]:
    """The moments, then one product that is normalised already.

    Returns:
        As `product_first`, with zeros for the product as it was.
    """
    x, kernel, scale, bias, mask = inputs
    y, (mean, variance) = _folded(x, kernel, scale, bias, mask, epsilon)
    return y, mean, variance, jnp.zeros_like(y)


def gradients_through_moments(
    inputs: Inputs, mean: Array, variance: Array, raw: Array, grad: Array, epsilon: float
) -> tuple[Array, Array, Array, Array]:
    """Those of `moments_first` with respect to x, kernel, scale and bias."""
    del mean, variance, raw
    *arguments, mask = inputs
    run = partial(_folded, mask=mask, epsilon=epsilon)
    # The products of the forward pass are the same, so the compiler computes them once.
    _, pull, _ = jax.vjp(run, *arguments, has_aux=True)
    x, kernel, scale, bias = pull(grad)
    return x, kernel, scale, bias


def _folded(
    x: Array, kernel: Array, scale: Array, bias: Array, mask: Array | None, epsilon: float
) -> tuple[Array, tuple[Array, Array]]:
    mean, variance = product_moments(x, kernel[0, 0], mask)
    factor = lax.rsqrt(variance + epsilon) * scale
    y = conv2d(x, (kernel * factor).astype(x.dtype), 1, _NO_PADDING)
    return (y + (bias - mean * factor)).astype(x.dtype), (mean, variance)


def moments(x: Array, mask: Array | None) -> tuple[Array, Array]:
    """Mean and variance of each channel over pixels, in one pass.

    Args:
        x: [N, H, W, C].
        mask: bool, of a shape that broadcasts to [N, H, W, 1]: pixels that count; None for all.

    Returns:
        Two of at least float32 [C].
    """
    x = x.astype(_exact(x))
    count = _count(x, mask)
    x = x if mask is None else jnp.where(mask, x, 0)
    mean = jnp.sum(x, (0, 1, 2)) / count
    square = jnp.sum(lax.square(x), (0, 1, 2)) / count
    return mean, jnp.maximum(square - lax.square(mean), 0)


def product_moments(x: Array, kernel: Array, mask: Array | None) -> tuple[Array, Array]:
    """Mean and variance of `x @ kernel` over pixels, from moments of `x`.

    Args:
        x: [N, H, W, C].
        kernel: at least float32 [C, D].
        mask: as in `moments`.

    Returns:
        Two of at least float32 [D].
    """
    count = _count(x, mask)
    x = x if mask is None else jnp.where(mask, x, jnp.zeros((), x.dtype))
    mean = jnp.sum(x, (0, 1, 2), dtype=_exact(x)) / count
    covariance = second_moments(x) / count - jnp.outer(mean, mean)
    variance = jnp.sum(kernel * jnp.matmul(covariance, kernel, precision=_EXACT), 0)
    return jnp.matmul(mean, kernel, precision=_EXACT), jnp.maximum(variance, 0)


def _count(x: Array, mask: Array | None) -> Any:
    if mask is None:
        return x.size // x.shape[-1]
    return jnp.sum(jnp.broadcast_to(mask, (*x.shape[:-1], 1)), dtype=_exact(x))


def _exact(x: Array) -> Any:
    """Sums over pixels are at least float32."""
    return jnp.promote_types(x.dtype, jnp.float32)


@jax.custom_vjp
def second_moments(x: Array) -> Array:
    """Sums over pixels of products of channels: [N, H, W, C] to at least float32 [C, C]."""
    pixels = (((0, 1, 2), (0, 1, 2)), ((), ()))
    return lax.dot_general(x, x, pixels, preferred_element_type=_exact(x))


def _moments_forward(x: Array) -> tuple[Array, Array]:
    return second_moments(x), x


def _moments_backward(x: Array, grad: Array) -> tuple[Array]:
    # In the type of `x`: that of the gradient would make a float32 product of all pixels.
    both = (grad + grad.T).astype(x.dtype)
    return (conv2d(x, both[None, None], 1, _NO_PADDING),)


second_moments.defvjp(_moments_forward, _moments_backward)
