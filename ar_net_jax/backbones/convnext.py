"""ConvNeXt (Liu et al. 2022): convolutions in the manner of a transformer, with LayerNorms.

It has no BatchNorm, and so no running statistics. Names follow timm with underscores for dots.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.backbones.base import Backbone
from ar_net_jax.backbones.layers import conv, global_average, run_block, symmetric_padding
from ar_net_jax.backbones.layouts import Layer, Layout
from ar_net_jax.errors import UserError
from ar_net_jax.ops.depthwise import DepthwiseConv
from ar_net_jax.ops.rng import drop_path

Array = jax.Array

DROP_PATH_RATE = 0.1
"""Drop rate that the last block reaches; block i of n drops at this times i / (n - 1)."""

_DROP_PATH_SALT = 0xC000
_EPSILON = 1e-6
_LAYER_SCALE = 1e-6
_INIT = nn.initializers.truncated_normal(0.02)


@dataclasses.dataclass(frozen=True)
class ConvNeXtSpec:
    """What tells the variants apart.

    Attributes:
        depths: blocks per stage; every stage after the first halves the map.
        widths: channels per stage.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one place of the last map stands for."""
        return 4 * 2 ** (len(self.depths) - 1)


class ConvNeXtBlock(nn.Module):
    """7x7 depthwise convolution, LayerNorm, two linear layers, layer scale, shortcut.

    Attributes:
        drop_rate: chance that a row loses this block's residual branch in training.
        index: of this block in the network.
        dtype: of the computation.
    """

    drop_rate: float
    index: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array, *, keys: Array | None) -> Array:
        """Maps [N, H, W, C] to the same shape; `keys` as in `ConvNeXt`."""
        channels = x.shape[-1]
        y = DepthwiseConv(
            kernel_size=7,
            stride=1,
            padding=symmetric_padding(7),
            kernel_init=_INIT,
            use_bias=True,
            dtype=self.dtype,
            name="conv_dw",
        )(x)
        y = nn.LayerNorm(_EPSILON, dtype=self.dtype, name="norm")(y)
        y = nn.Dense(4 * channels, dtype=self.dtype, kernel_init=_INIT, name="mlp_fc1")(y)
        y = nn.gelu(y, approximate=False)
        y = nn.Dense(channels, dtype=self.dtype, kernel_init=_INIT, name="mlp_fc2")(y)
        gamma = self.param("gamma", nn.initializers.constant(_LAYER_SCALE), (channels,))
        y = y * gamma.astype(self.dtype)
        return x + drop_path(y, self.drop_rate, keys, _DROP_PATH_SALT + self.index)


class ConvNeXt(nn.Module):
    """A ConvNeXt without its classifier; the LayerNorm on the pooled features belongs to it.

    Attributes:
        spec: depths and widths.
        dtype: of the computation; parameters and result stay float32.
        remat: as in `run_block`.
    """

    spec: ConvNeXtSpec
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False, keys: Array | None = None) -> Array:
        """Computes pooled features.

        Args:
            x: normalised frames [N, H, W, 3].
            train: allows stochastic depth.
            keys: typed PRNG keys [N] for stochastic depth; None, or `train` unset, drops nothing.

        Returns:
            float32 [N, D].

        Raises:
            UserError: nothing would be left of frames so small.
        """
        if min(x.shape[1:3]) < self.spec.stride:
            raise UserError(
                f"ConvNeXt takes frames of at least {self.spec.stride} pixels, got {x.shape[1]} x "
                f"{x.shape[2]}; choose a larger resolution, or another backbone for it"
            )
        keys = keys if train else None
        count, index = sum(self.spec.depths), 0
        for stage, (depth, width) in enumerate(zip(self.spec.depths, self.spec.widths)):
            x = self._shrink(x, stage, width)
            for i in range(depth):
                block = ConvNeXtBlock(
                    drop_rate=DROP_PATH_RATE * index / max(count - 1, 1),
                    index=index,
                    dtype=self.dtype,
                    name=f"stages_{stage}_blocks_{i}",
                )
                x = run_block(block, x, remat=self.remat, keys=keys)
                index += 1
        # In float32, as all that comes after the last map.
        return nn.LayerNorm(_EPSILON, name="head_norm")(global_average(x))

    def _shrink(self, x: Array, stage: int, width: int) -> Array:
        """Patches of 4x4 before the first stage, of 2x2 before each other one."""
        size, name = (4, "stem") if stage == 0 else (2, f"stages_{stage}_downsample")
        norm, patches = (
            nn.LayerNorm(_EPSILON, dtype=self.dtype, name=f"{name}_{int(stage == 0)}"),
            conv(
                width,
                size,
                stride=size,
                padding=((0, 0), (0, 0)),
                use_bias=True,
                kernel_init=_INIT,
                dtype=self.dtype,
                name=f"{name}_{int(stage > 0)}",
            ),
        )
        return norm(patches(x)) if stage == 0 else patches(norm(x))


@dataclasses.dataclass(frozen=True)
class ConvNeXtBackbone(Backbone):
    """One ConvNeXt and what is known of it."""

    name: str
    spec: ConvNeXtSpec
    features: int
    imagenet_weights: str = ""
    paper_note: str = (
        "ConvNeXt under paper: the paper has none; its LayerNorms are not charged, so both "
        "conventions agree."
    )

    def module(
        self,
        *,
        dtype: DTypeLike = jnp.float32,
        padding: str = "same",
        norm: str = "tensorflow",
        remat: bool = False,
        name: str | None = None,
    ) -> ConvNeXt:
        """The network; there is one padding, and no BatchNorm."""
        return ConvNeXt(self.spec, dtype=dtype, remat=remat, name=name)

    def layouts(self) -> Mapping[str, Layout]:
        """The names of timm's `convnext_*` and of `torchvision.models.convnext`."""
        return {
            "timm": Layout(_layers(self.spec, _TIMM), "head.fc"),
            "torchvision": Layout(_layers(self.spec, _TORCHVISION), "classifier.2"),
        }


class _Names(NamedTuple):
    """Where one family of names keeps the layers; {} stand for the stage and the block in it."""

    stem: str
    head_norm: str
    downsample: str
    block: str
    depthwise: str
    norm: str
    linear: tuple[str, str]
    scale: tuple[Literal["vector", "channels"], str]


_TIMM = _Names(
    stem="stem",
    head_norm="head.norm",
    downsample="stages.{stage}.downsample",
    block="stages.{stage}.blocks.{block}",
    depthwise="conv_dw",
    norm="norm",
    linear=("mlp.fc1", "mlp.fc2"),
    scale=("vector", "gamma"),
)
# `features` holds the stem, and then a stage and a downsampling in turn.
_TORCHVISION = _Names(
    stem="features.0",
    head_norm="classifier.0",
    downsample="features.{before}",
    block="features.{at}.{block}",
    depthwise="block.0",
    norm="block.2",
    linear=("block.3", "block.5"),
    scale=("channels", "layer_scale"),
)


def _layers(spec: ConvNeXtSpec, names: _Names) -> tuple[Layer, ...]:
    layers = [
        Layer("conv", f"{names.stem}.0", ("stem_0",), bias=True),
        Layer("layer_norm", f"{names.stem}.1", ("stem_1",)),
        Layer("layer_norm", names.head_norm, ("head_norm",)),
    ]
    kind, scale = names.scale
    for stage, depth in enumerate(spec.depths):
        place = {"stage": stage, "before": 2 * stage, "at": 2 * stage + 1}
        if stage > 0:
            source, ours = names.downsample.format(**place), f"stages_{stage}_downsample"
            layers.append(Layer("layer_norm", f"{source}.0", (f"{ours}_0",)))
            layers.append(Layer("conv", f"{source}.1", (f"{ours}_1",), bias=True))
        for i in range(depth):
            source, ours = names.block.format(**place, block=i), f"stages_{stage}_blocks_{i}"
            layers += [
                Layer("depthwise", f"{source}.{names.depthwise}", (ours, "conv_dw"), bias=True),
                Layer("layer_norm", f"{source}.{names.norm}", (ours, "norm")),
                Layer("linear", f"{source}.{names.linear[0]}", (ours, "mlp_fc1"), bias=True),
                Layer("linear", f"{source}.{names.linear[1]}", (ours, "mlp_fc2"), bias=True),
                Layer(kind, f"{source}.{scale}", (ours, "gamma")),
            ]
    return tuple(layers)


def _variant(name: str, depths: tuple[int, ...], width: int, weights: str = "") -> ConvNeXtBackbone:
    widths = tuple(width * 2**i for i in range(len(depths)))
    return ConvNeXtBackbone(name, ConvNeXtSpec(depths, widths), widths[-1], weights)


VARIANTS = (
    _variant("convnext_tiny", (3, 3, 9, 3), 96, "timm/convnext_tiny.fb_in1k"),
    _variant("convnext_slim", (1, 1, 1), 16),
)
"""The published tiny network, and a slim one to be trained on small frames."""
