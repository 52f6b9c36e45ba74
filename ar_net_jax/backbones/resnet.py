"""ResNet (He et al. 2016) in torchvision's layout and, with underscores for dots, its names."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.backbones.base import Backbone, Counted, shifted_name
from ar_net_jax.backbones.folded_norm import conv_norm, pooled_stem
from ar_net_jax.backbones.layers import Shift, global_average, run_block, shift_of
from ar_net_jax.backbones.layouts import Layer, Layout

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class ResNetSpec:
    """A ResNet in torchvision's layout (v1.5: a bottleneck strides in its 3x3 convolution).

    Attributes:
        block: 'basic' (two 3x3 convolutions) or 'bottleneck' (1x1, 3x3, 1x1 with 4 x width out).
        depths: blocks per stage; every stage after the first halves the map.
        widths: channels per stage, before a bottleneck's expansion.
        stem: 'imagenet' (7x7 stride 2, then 3x3 max-pool stride 2) or 'small' (3x3 stride 2).
    """

    block: Literal["basic", "bottleneck"]
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: Literal["imagenet", "small"] = "imagenet"

    @property
    def expansion(self) -> int:
        """Output channels of a block divided by its stage's width."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def features(self) -> int:
        """Width of the pooled feature vector."""
        return self.widths[-1] * self.expansion


class ResidualBlock(nn.Module):
    """Two or three convolutions beside a shortcut, which is a projection where the shape changes.

    Attributes:
        kind: 'basic' (3x3, 3x3) or 'bottleneck' (1x1, 3x3, 1x1).
        width: channels of the inner convolutions.
        features: channels of the result.
        stride: of the first 3x3 convolution.
        dtype: of the computation.
    """

    kind: str
    width: int
    features: int
    stride: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array, *, train: bool, shift: Shift | None = None) -> Array:
        """Maps [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), features].

        Args:
            x: the input.
            train: as in `batch_norm`.
            shift: of the input of the first convolution; None for none.
        """
        layers = [(self.width, 3, self.stride), (self.features, 3, 1)]
        if self.kind == "bottleneck":
            layers = [(self.width, 1, 1), (self.width, 3, self.stride), (self.features, 1, 1)]
        normed = functools.partial(conv_norm, train=train, dtype=self.dtype)
        y = x if shift is None else shift(x)
        for i, (features, kernel, stride) in enumerate(layers, start=1):
            y = normed(y, features, kernel, stride=stride, names=(f"conv{i}", f"bn{i}"))
            if i < len(layers):
                y = nn.relu(y)
        if self.stride != 1 or x.shape[-1] != self.features:
            names = "downsample_0", "downsample_1"
            x = normed(x, self.features, 1, stride=self.stride, names=names)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A ResNet without its classifier.

    Attributes:
        spec: depths, widths, kind of block and stem.
        dtype: of the computation; parameters, statistics and result stay float32.
        remat: as in `run_block`.
        shift_div: of the temporal shift, see `temporal_shift`; 0 for none.
    """

    spec: ResNetSpec
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    shift_div: int = 0

    def __call__(
        self,
        x: Array,
        *,
        train: bool = False,
        keys: Array | None = None,
        num_frames: int = 1,
        frame_mask: Array | None = None,
    ) -> Array:
        """Pooled features float32 [N, D]; args as in `feature_map`."""
        found = self.feature_map(
            x, train=train, keys=keys, num_frames=num_frames, frame_mask=frame_mask
        )
        return global_average(found)

    @nn.compact
    def feature_map(
        self,
        x: Array,
        *,
        train: bool = False,
        keys: Array | None = None,
        num_frames: int = 1,
        frame_mask: Array | None = None,
    ) -> Array:
        """Computes the map that is pooled.

        Args:
            x: normalised frames [N, H, W, 3].
            train: normalise by the batch and update the running statistics.
            keys: unused, nothing here is random; the backbones share one signature.
            num_frames: of a video, see `Backbone.module`; of account with a shift only.
            frame_mask: bool [N], likewise.

        Returns:
            [N, h, w, D] in the type of the computation.
        """
        del keys
        shift = shift_of(self.shift_div, num_frames, frame_mask)
        spec = self.spec
        if spec.stem == "imagenet":
            x = pooled_stem(x, spec.widths[0], train=train, dtype=self.dtype)
        else:
            names = "conv1", "bn1"
            width = spec.widths[0]
            x = conv_norm(x, width, 3, stride=2, train=train, dtype=self.dtype, names=names)
            x = nn.relu(x)
        for stage, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True), start=1):
            for i in range(depth):
                block = ResidualBlock(
                    kind=spec.block,
                    width=width,
                    features=width * spec.expansion,
                    stride=2 if stage > 1 and i == 0 else 1,
                    dtype=self.dtype,
                    name=f"layer{stage}_{i}",
                )
                x = run_block(block, x, remat=self.remat, train=train, shift=shift)
        return x


@dataclasses.dataclass(frozen=True)
class ResNetBackbone(Backbone):
    """One ResNet and what is known of it."""

    name: str
    spec: ResNetSpec
    features: int
    imagenet_weights: str = ""
    released_layouts: tuple[str, ...] = ()
    per_frame: bool = True
    shift_div: int = 0

    def module(
        self,
        *,
        dtype: DTypeLike = jnp.float32,
        padding: str = "same",
        norm: str = "tensorflow",
        remat: bool = False,
        name: str | None = None,
    ) -> ResNet:
        """The network; there is one padding and one kind of BatchNorm."""
        return ResNet(self.spec, dtype=dtype, remat=remat, shift_div=self.shift_div, name=name)

    def shifted(self, shift_div: int) -> "ResNetBackbone":
        """See `Backbone`: in all its blocks."""
        return dataclasses.replace(
            self,
            name=shifted_name(self.name, shift_div),
            per_frame=False,
            shift_div=shift_div,
            released_layouts=(),
        )

    def layouts(self) -> Mapping[str, Layout]:
        """The names of `torchvision.models.resnet`, which are timm's too."""
        layout = Layout(_layers(self.spec), "fc")
        return {"torchvision": layout, "timm": layout}

    def paper_gflops(self, resolution: int, count: Callable[[], Counted]) -> float:
        """MACs, 2 for each BatchNorm output, and the average pool.

        The pool adds up the last map, which is as large as the last BatchNorm's output, and
        divides once per channel. (Networks that pool outside of a module are counted without.)
        """
        counted = count()
        operations = counted.macs + 2 * sum(counted.norm_outputs)
        return (operations + counted.norm_outputs[-1] + self.features) / 1e9


def _layers(spec: ResNetSpec) -> tuple[Layer, ...]:
    layers = [Layer("conv", "conv1", ("conv1",)), Layer("batch_norm", "bn1", ("bn1",))]
    channels = spec.widths[0]
    for stage, (depth, width) in enumerate(zip(spec.depths, spec.widths), start=1):
        for i in range(depth):
            name, path = f"layer{stage}.{i}", f"layer{stage}_{i}"
            for layer in range(1, 4 if spec.block == "bottleneck" else 3):
                layers.append(Layer("conv", f"{name}.conv{layer}", (path, f"conv{layer}")))
                layers.append(Layer("batch_norm", f"{name}.bn{layer}", (path, f"bn{layer}")))
            features = width * spec.expansion
            if (stage > 1 and i == 0) or channels != features:
                layers.append(Layer("conv", f"{name}.downsample.0", (path, "downsample_0")))
                layers.append(Layer("batch_norm", f"{name}.downsample.1", (path, "downsample_1")))
            channels = features
    return tuple(layers)


def _published(name: str, spec: ResNetSpec) -> ResNetBackbone:
    return ResNetBackbone(name, spec, spec.features, f"timm/{name}.tv_in1k", ("torchvision",))


def _small(name: str, depths: tuple[int, ...], width: int) -> ResNetBackbone:
    """A slim network for small frames, whose width doubles with every stage."""
    widths = tuple(width * 2**i for i in range(len(depths)))
    spec = ResNetSpec("basic", depths, widths, "small")
    return ResNetBackbone(name, spec, spec.features)


VARIANTS = (
    _published("resnet18", ResNetSpec("basic", (2, 2, 2, 2))),
    _published("resnet34", ResNetSpec("basic", (3, 4, 6, 3))),
    _published("resnet50", ResNetSpec("bottleneck", (3, 4, 6, 3))),
    _published("resnet101", ResNetSpec("bottleneck", (3, 4, 23, 3))),
    _small("resnet8_tiny", (1, 1, 1), 8),
    _small("resnet8_slim", (1, 1, 1), 16),
    _small("resnet10_slim", (1, 1, 1, 1), 16),
    _small("resnet14_slim", (2, 2, 2), 16),
)
"""The published networks, with torchvision's weights of 2016, and slim ones to be trained."""
