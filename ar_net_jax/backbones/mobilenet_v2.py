"""MobileNetV2 (Sandler et al. 2018) in torchvision's layout and, with underscores, its names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.backbones.architectures import MobileNetV2Spec, make_divisible
from ar_net_jax.backbones.layers import (
    KAIMING_FAN_OUT,
    batch_norm,
    conv,
    global_average,
    run_block,
    symmetric_padding,
)
from ar_net_jax.ops.depthwise import DepthwiseConv

Array = jax.Array

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""(expansion, channels, blocks, stride of the first block), table 2 of the paper."""


class InvertedResidual(nn.Module):
    """1x1 expansion (unless `expansion` is 1), 3x3 depthwise, 1x1 linear projection.

    Attributes:
        expansion: inner channels divided by input channels.
        features: channels of the result.
        stride: of the depthwise convolution.
        dtype: of the computation.
    """

    expansion: int
    features: int
    stride: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), features]."""
        y, layer = x, 0
        if self.expansion != 1:
            y = conv(x.shape[-1] * self.expansion, 1, dtype=self.dtype, name="conv_0_0")(y)
            y = nn.relu6(batch_norm(train=train, dtype=self.dtype, name="conv_0_1")(y))
            layer = 1
        y = DepthwiseConv(
            kernel_size=3,
            stride=self.stride,
            padding=symmetric_padding(3),
            kernel_init=KAIMING_FAN_OUT,
            dtype=self.dtype,
            name=f"conv_{layer}_0",
        )(y)
        y = nn.relu6(batch_norm(train=train, dtype=self.dtype, name=f"conv_{layer}_1")(y))
        y = conv(self.features, 1, dtype=self.dtype, name=f"conv_{layer + 1}")(y)
        y = batch_norm(train=train, dtype=self.dtype, name=f"conv_{layer + 2}")(y)
        return x + y if self.stride == 1 and x.shape[-1] == self.features else y


class MobileNetV2(nn.Module):
    """MobileNetV2 without its classifier.

    Attributes:
        spec: the width multiplier.
        dtype: of the computation; parameters, statistics and result stay float32.
        remat: as in `run_block`.
    """

    spec: MobileNetV2Spec
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, keys: Array | None = None) -> Array:
        """Computes pooled features.

        Args:
            x: normalised frames [N, H, W, 3].
            train: normalise by the batch and update the running statistics.
            keys: unused, nothing here is random; the backbones share one signature.

        Returns:
            float32 [N, D].
        """
        del keys
        width = self.spec.width
        x = conv(make_divisible(32 * width), 3, stride=2, dtype=self.dtype, name="features_0_0")(x)
        x = nn.relu6(batch_norm(train=train, dtype=self.dtype, name="features_0_1")(x))
        index = 1
        for expansion, channels, blocks, stride in STAGES:
            for i in range(blocks):
                block = InvertedResidual(
                    expansion=expansion,
                    features=make_divisible(channels * width),
                    stride=stride if i == 0 else 1,
                    dtype=self.dtype,
                    name=f"features_{index}",
                )
                x = run_block(block, x, remat=self.remat, train=train)
                index += 1
        x = conv(self.spec.features, 1, dtype=self.dtype, name=f"features_{index}_0")(x)
        x = nn.relu6(batch_norm(train=train, dtype=self.dtype, name=f"features_{index}_1")(x))
        return global_average(x)
