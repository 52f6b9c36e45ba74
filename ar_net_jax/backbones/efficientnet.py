"""EfficientNet (Tan and Le 2019), with the padding rule that its weights were trained under.

Names follow efficientnet_pytorch without the leading underscores (`blocks_3/depthwise_conv`).
"""

import math
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.backbones.architectures import NORMS, PADDINGS, EfficientNetSpec, make_divisible
from ar_net_jax.backbones.layers import (
    KAIMING_FAN_OUT,
    batch_norm,
    conv,
    global_average,
    run_block,
    symmetric_padding,
)
from ar_net_jax.ops.depthwise import DepthwiseConv, Padding
from ar_net_jax.ops.rng import drop_path

Array = jax.Array

DROP_PATH_RATE = 0.2
"""Drop rate that the last block would reach; block i of n drops at this times i / n."""

_DROP_PATH_SALT = 0x5D00

_NORM_SETTINGS = {
    "tensorflow": {"momentum": 0.99, "epsilon": 1e-3},
    "pytorch": {"momentum": 0.9, "epsilon": 1e-5},
}


class Stage(NamedTuple):
    """One row of the paper's table 1, for the B0 variant."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def norm_settings(norm: str) -> dict[str, float]:
    """Momentum and epsilon of the BatchNorms.

    Args:
        norm: 'tensorflow': as published (momentum .99, epsilon .001). 'pytorch': PyTorch's
            defaults (.9, .00001), under which timm and torchvision trained weights of their own.

    Raises:
        ValueError: no such settings.
    """
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}.")
    return _NORM_SETTINGS[norm]


def stage_depths(spec: EfficientNetSpec) -> tuple[int, ...]:
    """Blocks in each of the stages, after the depth multiplier."""
    return tuple(math.ceil(stage.blocks * spec.depth) for stage in STAGES)


def conv_padding(
    rule: str, kernel: int, stride: int, size: tuple[int, int], native_size: int
) -> Padding:
    """Zeros around the map before a convolution.

    Args:
        rule: 'same': TensorFlow's, from the map's own size. 'symmetric': (k - 1) // 2 on every
            side, as torchvision. 'static': TensorFlow's, as if every layer saw the variant's
            native input size; what efficientnet_pytorch 0.6.3 does, so what its weights expect.
        kernel: side length of the kernel.
        stride: the same for rows and columns.
        size: rows and columns of the map.
        native_size: input side length of the variant, used by 'static'.

    Raises:
        ValueError: no such rule.
    """
    if rule not in PADDINGS:
        raise ValueError(f"unknown padding {rule!r}: choose one of {', '.join(PADDINGS)}.")
    if rule == "symmetric":
        return symmetric_padding(kernel)

    def same(length: int) -> tuple[int, int]:
        total = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
        return (total // 2, total - total // 2)

    rows, columns = (native_size, native_size) if rule == "static" else size
    return (same(rows), same(columns))


class MBConv(nn.Module):
    """Expansion, depthwise convolution, squeeze-excite, projection; then stochastic depth.

    Attributes:
        stage: kernel, stride and expansion; its number of blocks and channels are not used.
        features: channels of the result.
        index: of this block in the network.
        drop_rate: chance that a row loses this block's residual branch in training.
        padding: a rule of `conv_padding`.
        norm: of `norm_settings`.
        native_size: input side length of the variant.
        dtype: of the computation.
    """

    stage: Stage
    features: int
    index: int
    drop_rate: float
    padding: str
    norm: str
    native_size: int
    dtype: DTypeLike

    def _squeeze_excite(self, y: Array, squeezed: int) -> Array:
        gate = jnp.mean(y, (1, 2), keepdims=True, dtype=jnp.float32)
        gate = conv(squeezed, 1, use_bias=True, dtype=self.dtype, name="se_reduce")(gate)
        gate = nn.swish(gate)
        gate = conv(y.shape[-1], 1, use_bias=True, dtype=self.dtype, name="se_expand")(gate)
        return y * nn.sigmoid(gate)

    @nn.compact
    def __call__(self, x: Array, *, train: bool, keys: Array | None) -> Array:
        """Maps [N, H, W, C] to [N, H', W', features]; `keys` as in `EfficientNet`."""
        norm = partial(batch_norm, train=train, dtype=self.dtype, **norm_settings(self.norm))
        kernel, stride, channels = self.stage.kernel, self.stage.stride, x.shape[-1]
        y = x
        if self.stage.expansion != 1:
            y = conv(channels * self.stage.expansion, 1, dtype=self.dtype, name="expand_conv")(y)
            y = nn.swish(norm(name="bn0")(y))
        y = DepthwiseConv(
            kernel_size=kernel,
            stride=stride,
            padding=conv_padding(self.padding, kernel, stride, x.shape[1:3], self.native_size),
            kernel_init=KAIMING_FAN_OUT,
            dtype=self.dtype,
            name="depthwise_conv",
        )(y)
        y = nn.swish(norm(name="bn1")(y))
        y = self._squeeze_excite(y, squeezed=max(1, channels // 4))
        y = conv(self.features, 1, dtype=self.dtype, name="project_conv")(y)
        y = norm(name="bn2")(y)
        if stride != 1 or channels != self.features:
            return y
        return x + drop_path(y, self.drop_rate, keys, _DROP_PATH_SALT + self.index)


class EfficientNet(nn.Module):
    """An EfficientNet without its dropout and classifier.

    Attributes:
        spec: width and depth multipliers, native size.
        padding: a rule of `conv_padding`.
        norm: of `norm_settings`.
        dtype: of the computation; parameters, statistics and result stay float32.
        remat: as in `run_block`.
    """

    spec: EfficientNetSpec
    padding: str = "same"
    norm: str = "tensorflow"
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, keys: Array | None = None) -> Array:
        """Computes pooled features.

        Args:
            x: normalised frames [N, H, W, 3].
            train: normalise by the batch and update the running statistics.
            keys: typed PRNG keys [N] for stochastic depth; None, or `train` unset, drops nothing.

        Returns:
            float32 [N, D].
        """
        spec = self.spec
        norm = partial(batch_norm, train=train, dtype=self.dtype, **norm_settings(self.norm))
        keys = keys if train else None
        stem_padding = conv_padding(self.padding, 3, 2, x.shape[1:3], spec.native_size)
        x = conv(
            make_divisible(32 * spec.width),
            3,
            stride=2,
            padding=stem_padding,
            dtype=self.dtype,
            name="conv_stem",
        )(x)
        x = nn.swish(norm(name="bn0")(x))
        blocks = [
            (
                stage if i == 0 else stage._replace(stride=1),
                make_divisible(stage.channels * spec.width),
            )
            for stage, depth in zip(STAGES, stage_depths(spec), strict=True)
            for i in range(depth)
        ]
        for index, (stage, features) in enumerate(blocks):
            block = MBConv(
                stage=stage,
                features=features,
                index=index,
                drop_rate=DROP_PATH_RATE * index / len(blocks),
                padding=self.padding,
                norm=self.norm,
                native_size=spec.native_size,
                dtype=self.dtype,
                name=f"blocks_{index}",
            )
            x = run_block(block, x, remat=self.remat, train=train, keys=keys)
        x = conv(spec.features, 1, dtype=self.dtype, name="conv_head")(x)
        x = nn.swish(norm(name="bn1")(x))
        return global_average(x)
