"""BatchNorm in training as part of what stands beside it, so that large maps are passed less often.

On TPUs a training step is bound by memory traffic. Two of a ResNet's places need not write
a map, read it for BatchNorm, and read it again for BatchNorm's gradient:

- On a TPU a pointwise convolution's BatchNorm becomes part of its kernel, see `ops.normed_product`.
- A maximum does not change its place under BatchNorm and ReLU where the scale is positive. The map
  is pooled as it is, and a quarter of it is normalised.

Parameters, statistics and results are those of the plain layers, up to rounding.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from ar_net_jax.backbones.known_norm import JoinedNorm, Kernel, conv_batch_norm
from ar_net_jax.backbones.layers import EPSILON, MOMENTUM
from ar_net_jax.ops.conv_cpu import conv2d
from ar_net_jax.ops.depthwise import Padding
from ar_net_jax.ops.normed_product import moments, normed_product

Array = jax.Array

# A batch of 192 frames has 147 and 18 pixels a channel in the last two stages of ResNet-50.
_PIXELS_PER_CHANNEL = 16
_SETTINGS: dict[str, Any] = {
    "use_running_average": False,
    "momentum": MOMENTUM,
    "epsilon": EPSILON,
}


def conv_norm(
    x: Array,
    features: int,
    kernel: int,
    *,
    stride: int = 1,
    train: bool,
    dtype: DTypeLike,
    names: tuple[str, str],
) -> Array:
    """`conv_batch_norm`, whose training is the fast one where it pays; args and result as there."""
    channels = x.shape[-1]
    pixels = x[:, ::stride, ::stride].size // channels if kernel == 1 else 0
    # Of more channels than the result has, the moments would cost more than the product; of few
    # pixels they are less exact.
    if train and features > channels and pixels >= _PIXELS_PER_CHANNEL * channels:
        weights = Kernel((1, 1, channels, features), name=names[0])()
        seen = x[:, ::stride, ::stride].astype(dtype)
        return _PointwiseNorm(dtype=dtype, name=names[1], **_SETTINGS)(seen, weights)
    return conv_batch_norm(
        x, features, kernel, stride=stride, train=train, dtype=dtype, names=names
    )


def pooled_stem(x: Array, features: int, *, train: bool, dtype: DTypeLike) -> Array:
    """A 7x7 convolution, BatchNorm, ReLU and 3x3 max-pool, to be called within a compact method.

    Both strides are 2; the submodules are `conv1` and `bn1`.

    Args:
        x: [N, H, W, C].
        features: D.
        train: as in `batch_norm`.
        dtype: of the computation.

    Returns:
        [N, ceil(H / 4), ceil(W / 4), D].
    """
    names = "conv1", "bn1"
    if train:
        weights = Kernel((7, 7, x.shape[-1], features), name=names[0])()
        pooled = _PooledNorm(dtype=dtype, name=names[1], **_SETTINGS)(x.astype(dtype), weights)
        return nn.relu(pooled)
    x = conv_batch_norm(x, features, 7, stride=2, train=False, dtype=dtype, names=names)
    return _max_pool(nn.relu(x))


def _max_pool(x: Array) -> Array:
    pooled: Array = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    return pooled


class _FoldedNorm(JoinedNorm):
    """BatchNorm in training."""

    def keep(self, mean: Array, variance: Array) -> None:
        """Moves the running statistics towards the batch's."""
        for running, new in zip(self.statistics(mean.size), (mean, variance)):
            if not self.is_initializing():
                running.value = self.momentum * running.value + (1 - self.momentum) * new


class _PointwiseNorm(_FoldedNorm):
    @nn.compact
    def __call__(  # type: ignore[override]
        self, x: Array, kernel: Array, *, mask: Array | None = None
    ) -> Array:
        """BatchNorm of the product of pixels [N, H, W, C] and a kernel float32 [1, 1, C, D].

        `mask`, bool, of a shape that broadcasts to [N, H, W, 1], tells what statistics are about.
        """
        scale, bias = self.declare(kernel.shape[-1])
        y, mean, variance = normed_product(x, kernel, scale, bias, mask, self.epsilon)
        self.keep(mean, variance)
        return y.astype(self.dtype)


class _PooledNorm(_FoldedNorm):
    @nn.compact
    def __call__(  # type: ignore[override]
        self, x: Array, kernel: Array, *, mask: Array | None = None
    ) -> Array:
        """BatchNorm of a convolution of [N, H, W, C] with float32 [7, 7, C, D], pooled.

        `mask` as in `_PointwiseNorm`.
        """
        scale, bias = self.declare(kernel.shape[-1])
        # With a positive factor the largest value stays the largest.
        sign = jnp.where(scale < 0, -1.0, 1.0)
        padding: Padding = ((3, 3), (3, 3))
        y = conv2d(x, (kernel * sign).astype(x.dtype), 2, padding)
        mean, variance = moments(y, mask)
        self.keep(mean * sign, variance)
        factor = lax.rsqrt(variance + self.epsilon) * (scale * sign)
        return ((_max_pool(y) - mean) * factor + bias).astype(self.dtype)
