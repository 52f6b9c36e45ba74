"""The network that EfficientNet and EfficientNet-Lite are variants of, and names of its layers.

Its blocks are MobileNetV2's with squeeze-excitation (MnasNet's MBConv). Names follow
efficientnet_pytorch without the leading underscores (`blocks_3/depthwise_conv`).
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypedDict

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.backbones.known_norm import conv_batch_norm
from ar_net_jax.backbones.layers import (
    KAIMING_FAN_OUT,
    batch_norm,
    conv,
    global_average,
    make_divisible,
    run_block,
    symmetric_padding,
)
from ar_net_jax.backbones.layouts import Layer
from ar_net_jax.ops.depthwise import DepthwiseConv, Padding
from ar_net_jax.ops.rng import drop_path

Array = jax.Array

DROP_PATH_RATE = 0.2
"""Drop rate that the last block would reach; block i of n drops at this times i / n."""

PADDINGS = ("same", "symmetric", "static")
"""Padding rules of the convolutions, see `conv_padding`."""

NORMS = ("tensorflow", "pytorch")
"""Settings of the BatchNorms, see `norm_settings`."""

_DROP_PATH_SALT = 0x5D00


class NormSettings(TypedDict):
    """Arguments of `layers.batch_norm` that libraries differ in."""

    momentum: float
    epsilon: float


_NORM_SETTINGS: dict[str, NormSettings] = {
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


@dataclasses.dataclass(frozen=True)
class MBConvSpec:
    """What tells the variants apart.

    Attributes:
        width: channel multiplier.
        depth: multiplier of the number of blocks per stage.
        native_size: input side length that the variant was published at, in pixels.
        lite: EfficientNet-Lite: no squeeze-excitation, ReLU6 for swish, and the multipliers leave
            out the stem, the head, and the depth of the first and of the last stage.
    """

    width: float
    depth: float
    native_size: int
    lite: bool = False

    @property
    def stem(self) -> int:
        """Channels of the first convolution."""
        return 32 if self.lite else make_divisible(32 * self.width)

    @property
    def features(self) -> int:
        """Width of the pooled feature vector."""
        return 1280 if self.lite else make_divisible(1280 * self.width)

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks in each of the stages."""
        scaled = [math.ceil(stage.blocks * self.depth) for stage in STAGES]
        if self.lite:
            scaled[0], scaled[-1] = STAGES[0].blocks, STAGES[-1].blocks
        return tuple(scaled)

    @property
    def activation(self) -> Callable[[Array], Array]:
        """The nonlinearity."""
        return nn.relu6 if self.lite else nn.swish


def norm_settings(norm: str) -> NormSettings:
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
        spec: of the network that the block belongs to.
        stage: kernel, stride and expansion; its number of blocks and channels are not used.
        features: channels of the result.
        index: of this block in the network.
        drop_rate: chance that a row loses this block's residual branch in training.
        padding: a rule of `conv_padding`.
        norm: of `norm_settings`.
        dtype: of the computation.
    """

    spec: MBConvSpec
    stage: Stage
    features: int
    index: int
    drop_rate: float
    padding: str
    norm: str
    dtype: DTypeLike

    def _squeeze_excite(self, y: Array, squeezed: int) -> Array:
        gate = jnp.mean(y, (1, 2), keepdims=True, dtype=jnp.float32)
        gate = conv(squeezed, 1, use_bias=True, dtype=self.dtype, name="se_reduce")(gate)
        gate = nn.swish(gate)
        gate = conv(y.shape[-1], 1, use_bias=True, dtype=self.dtype, name="se_expand")(gate)
        return y * nn.sigmoid(gate)

    @nn.compact
    def __call__(self, x: Array, *, train: bool, keys: Array | None) -> Array:
        """Maps [N, H, W, C] to [N, H', W', features]; `keys` as in `MBConvNet`."""
        how: dict[str, Any] = {"train": train, "dtype": self.dtype, **norm_settings(self.norm)}
        kernel, stride, channels = self.stage.kernel, self.stage.stride, x.shape[-1]
        activation, native_size = self.spec.activation, self.spec.native_size
        y = x
        if self.stage.expansion != 1:
            names = "expand_conv", "bn0"
            y = activation(
                conv_batch_norm(y, channels * self.stage.expansion, 1, names=names, **how)
            )
        y = DepthwiseConv(
            kernel_size=kernel,
            stride=stride,
            padding=conv_padding(
                self.padding, kernel, stride, (x.shape[1], x.shape[2]), native_size
            ),
            kernel_init=KAIMING_FAN_OUT,
            dtype=self.dtype,
            name="depthwise_conv",
        )(y)
        y = activation(batch_norm(name="bn1", **how)(y))
        if not self.spec.lite:
            y = self._squeeze_excite(y, squeezed=max(1, channels // 4))
        y = conv_batch_norm(y, self.features, 1, names=("project_conv", "bn2"), **how)
        if stride != 1 or channels != self.features:
            return y
        return x + drop_path(y, self.drop_rate, keys, _DROP_PATH_SALT + self.index)


class MBConvNet(nn.Module):
    """The network without its dropout and classifier.

    Attributes:
        spec: the variant.
        padding: a rule of `conv_padding`.
        norm: of `norm_settings`.
        dtype: of the computation; parameters, statistics and result stay float32.
        remat: as in `run_block`.
    """

    spec: MBConvSpec
    padding: str = "same"
    norm: str = "tensorflow"
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    def __call__(self, x: Array, *, train: bool = False, keys: Array | None = None) -> Array:
        """Pooled features float32 [N, D]; args as in `feature_map`."""
        return global_average(self.feature_map(x, train=train, keys=keys))

    @nn.compact
    def feature_map(self, x: Array, *, train: bool = False, keys: Array | None = None) -> Array:
        """Computes the map that is pooled.

        Args:
            x: normalised frames [N, H, W, 3].
            train: normalise by the batch and update the running statistics.
            keys: typed PRNG keys [N] for stochastic depth; None, or `train` unset, drops nothing.

        Returns:
            [N, h, w, D] in the type of the computation.
        """
        spec = self.spec
        normed = partial(conv_batch_norm, train=train, dtype=self.dtype, **norm_settings(self.norm))
        keys = keys if train else None
        stem_padding = conv_padding(self.padding, 3, 2, (x.shape[1], x.shape[2]), spec.native_size)
        names = "conv_stem", "bn0"
        x = spec.activation(normed(x, spec.stem, 3, stride=2, padding=stem_padding, names=names))
        blocks = [
            (
                stage if i == 0 else stage._replace(stride=1),
                make_divisible(stage.channels * spec.width),
            )
            for stage, depth in zip(STAGES, spec.depths, strict=True)
            for i in range(depth)
        ]
        for index, (stage, features) in enumerate(blocks):
            block = MBConv(
                spec=spec,
                stage=stage,
                features=features,
                index=index,
                drop_rate=DROP_PATH_RATE * index / len(blocks),
                padding=self.padding,
                norm=self.norm,
                dtype=self.dtype,
                name=f"blocks_{index}",
            )
            x = run_block(block, x, remat=self.remat, train=train, keys=keys)
        return spec.activation(normed(x, spec.features, 1, names=("conv_head", "bn1")))


# A block's layers in order: kind, name here.
_LAYERS: tuple[tuple[Literal["conv", "depthwise", "batch_norm"], str], ...] = (
    ("conv", "expand_conv"),
    ("batch_norm", "bn0"),
    ("depthwise", "depthwise_conv"),
    ("batch_norm", "bn1"),
    ("conv", "se_reduce"),
    ("conv", "se_expand"),
    ("conv", "project_conv"),
    ("batch_norm", "bn2"),
)

_TIMM = {
    "expand_conv": "conv_pw",
    "bn0": "bn1",
    "depthwise_conv": "conv_dw",
    "bn1": "bn2",
    "se_reduce": "se.conv_reduce",
    "se_expand": "se.conv_expand",
    "project_conv": "conv_pwl",
    "bn2": "bn3",
}
# A block that expands nothing counts its layers from the depthwise one.
_TIMM_FIRST = {**_TIMM, "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}

_TORCHVISION = {
    "expand_conv": "block.0.0",
    "bn0": "block.0.1",
    "depthwise_conv": "block.1.0",
    "bn1": "block.1.1",
    "se_reduce": "block.2.fc1",
    "se_expand": "block.2.fc2",
    "project_conv": "block.3.0",
    "bn2": "block.3.1",
}
_TORCHVISION_FIRST = {
    "depthwise_conv": "block.0.0",
    "bn1": "block.0.1",
    "se_reduce": "block.1.fc1",
    "se_expand": "block.1.fc2",
    "project_conv": "block.2.0",
    "bn2": "block.2.1",
}


def efficientnet_pytorch_layers(spec: MBConvSpec) -> tuple[Layer, ...]:
    """Layers under the names of the package efficientnet_pytorch: ours, with underscores."""
    names = {ours: f"_{ours}" for _, ours in _LAYERS}
    layers = _ends(("_conv_stem", "_bn0"), ("_conv_head", "_bn1"))
    for index, _, _, expands in _blocks(spec):
        layers += _block(f"_blocks.{index}", index, names, expands, spec.lite)
    return tuple(layers)


def timm_layers(spec: MBConvSpec) -> tuple[Layer, ...]:
    """Layers under the names of timm's `efficientnet_*` and `tf_efficientnet_*`."""
    layers = _ends(("conv_stem", "bn1"), ("conv_head", "bn2"))
    for index, stage, i, expands in _blocks(spec):
        names = _TIMM if expands else _TIMM_FIRST
        layers += _block(f"blocks.{stage}.{i}", index, names, expands, spec.lite)
    return tuple(layers)


def torchvision_layers(spec: MBConvSpec) -> tuple[Layer, ...]:
    """Layers under the names of `torchvision.models.efficientnet`."""
    last = len(STAGES) + 1
    stem, head = (tuple(f"features.{i}.{j}" for j in (0, 1)) for i in (0, last))
    layers = _ends(stem, head)
    for index, stage, i, expands in _blocks(spec):
        names = _TORCHVISION if expands else _TORCHVISION_FIRST
        layers += _block(f"features.{stage + 1}.{i}", index, names, expands, spec.lite)
    return tuple(layers)


def _ends(stem: tuple[str, ...], head: tuple[str, ...]) -> list[Layer]:
    return [
        Layer("conv", stem[0], ("conv_stem",)),
        Layer("batch_norm", stem[1], ("bn0",)),
        Layer("conv", head[0], ("conv_head",)),
        Layer("batch_norm", head[1], ("bn1",)),
    ]


def _blocks(spec: MBConvSpec) -> Iterator[tuple[int, int, int, bool]]:
    """Yields number of the block, its stage, its number in the stage, and if it expands."""
    index = 0
    for stage, (row, depth) in enumerate(zip(STAGES, spec.depths, strict=True)):
        for i in range(depth):
            yield index, stage, i, row.expansion != 1
            index += 1


def _block(
    source: str, index: int, names: Mapping[str, str], expands: bool, lite: bool
) -> list[Layer]:
    left_out = ("expand_conv", "bn0") * (not expands) + ("se_reduce", "se_expand") * lite
    return [
        Layer(kind, f"{source}.{names[ours]}", (f"blocks_{index}", ours), ours.startswith("se_"))
        for kind, ours in _LAYERS
        if ours not in left_out
    ]
