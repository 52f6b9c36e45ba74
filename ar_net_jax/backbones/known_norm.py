"""A convolution and its BatchNorm as one layer, where the statistics are known.

Parameters, statistics and results are those of the two layers, up to rounding.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.backbones.layers import (
    EPSILON,
    KAIMING_FAN_OUT,
    MOMENTUM,
    batch_norm,
    conv,
    symmetric_padding,
)
from ar_net_jax.ops.depthwise import Padding
from ar_net_jax.ops.normed_conv import Norm, normed_conv

Array = jax.Array


def conv_batch_norm(
    x: Array,
    features: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: Padding | None = None,
    train: bool,
    dtype: DTypeLike,
    momentum: float = MOMENTUM,
    epsilon: float = EPSILON,
    names: tuple[str, str],
) -> Array:
    """A square convolution and a BatchNorm, to be called within a compact method.

    Args:
        x: [N, H, W, C].
        features: D.
        kernel: side length of the kernel.
        stride: as in `conv`, like the following.
        padding: zeros before and after, for rows and columns; None pads symmetrically.
        train: as in `batch_norm`, like the following.
        dtype: of the computation.
        momentum: of the running statistics.
        epsilon: added to the variance.
        names: of the convolution and of the BatchNorm.

    Returns:
        [N, H', W', D].
    """
    padding = padding or symmetric_padding(kernel)
    if train:
        x = conv(features, kernel, stride=stride, padding=padding, dtype=dtype, name=names[0])(x)
        norm = batch_norm(
            train=True, dtype=dtype, name=names[1], momentum=momentum, epsilon=epsilon
        )
        return norm(x)
    weights = Kernel((kernel, kernel, x.shape[-1], features), name=names[0])()
    return KnownNorm(epsilon=epsilon, name=names[1])(x.astype(dtype), weights, stride, padding)


class Kernel(nn.Module):
    """Declares what `nn.Conv` does."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> Array:
        """The kernel, float32."""
        kernel: Array = self.param("kernel", KAIMING_FAN_OUT, self.shape, jnp.float32)
        return kernel


class JoinedNorm(nn.BatchNorm):
    """BatchNorm as part of a convolution, with the variables of `nn.BatchNorm`."""

    def declare(self, features: int) -> tuple[Array, Array]:
        """Scale and bias, float32 [D]."""
        scale = self.param("scale", self.scale_init, (features,), jnp.float32)
        bias = self.param("bias", self.bias_init, (features,), jnp.float32)
        return scale, bias

    def statistics(self, features: int) -> tuple[nn.Variable[Array], nn.Variable[Array]]:
        """Running mean and variance, float32 [D]."""
        shape = (features,)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        return mean, self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)


class KnownNorm(JoinedNorm):
    """BatchNorm by the running statistics."""

    @nn.compact
    def __call__(  # type: ignore[override]
        self,
        x: Array,
        kernel: Array,
        stride: int,
        padding: Padding,
        *,
        mask: Array | None = None,
    ) -> Array:
        """Convolves [N, H, W, C] with float32 [k, k, C, D]; normalises all, whatever `mask` is."""
        del mask
        scale, bias = self.declare(kernel.shape[-1])
        mean, variance = (each.value for each in self.statistics(kernel.shape[-1]))
        norm = Norm(mean, variance, scale, bias)
        return normed_conv(x, kernel, norm, self.epsilon, stride, padding)
