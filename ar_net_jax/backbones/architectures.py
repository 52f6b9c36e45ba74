"""What every backbone looks like, as data: names, widths, depths. Nothing here needs JAX."""

import dataclasses
import difflib
import re
from typing import Literal

from ar_net_jax.errors import UserError

PADDINGS = ("same", "symmetric", "static")
"""Padding rules of an EfficientNet's convolutions, see `models.efficientnet.conv_padding`."""

NORMS = ("tensorflow", "pytorch")
"""Settings of an EfficientNet's BatchNorms, see `models.efficientnet.norm_settings`."""

COST_CONVENTIONS = ("macs", "paper")
"""Ways to count the GFLOPs of a frame, see `costs.modules`."""


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
    widths: tuple[int, ...]
    stem: Literal["imagenet", "small"] = "imagenet"

    @property
    def expansion(self) -> int:
        """Output channels of a block divided by its stage's width."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def features(self) -> int:
        """Width of the pooled feature vector."""
        return self.widths[-1] * self.expansion


@dataclasses.dataclass(frozen=True)
class MobileNetV2Spec:
    """MobileNetV2 (Sandler et al. 2018) in torchvision's layout, with a width multiplier."""

    width: float = 1.0

    @property
    def features(self) -> int:
        """Width of the pooled feature vector; a multiplier below 1 leaves it at 1280."""
        return make_divisible(1280 * max(1.0, self.width))


@dataclasses.dataclass(frozen=True)
class EfficientNetSpec:
    """EfficientNet (Tan and Le 2019).

    Attributes:
        width: channel multiplier.
        depth: multiplier of the number of blocks per stage.
        dropout: rate before the classifier.
        native_size: input side length that the variant was published at, in pixels.
        published_gflops: GFLOPs that its authors state (for the native size).
    """

    width: float
    depth: float
    dropout: float
    native_size: int
    published_gflops: float

    @property
    def features(self) -> int:
        """Width of the pooled feature vector."""
        return make_divisible(1280 * self.width)


Spec = ResNetSpec | MobileNetV2Spec | EfficientNetSpec

_WIDTHS = (64, 128, 256, 512)

ARCHITECTURES: dict[str, Spec] = {
    "resnet18": ResNetSpec("basic", (2, 2, 2, 2), _WIDTHS),
    "resnet34": ResNetSpec("basic", (3, 4, 6, 3), _WIDTHS),
    "resnet50": ResNetSpec("bottleneck", (3, 4, 6, 3), _WIDTHS),
    "resnet101": ResNetSpec("bottleneck", (3, 4, 23, 3), _WIDTHS),
    "resnet8_tiny": ResNetSpec("basic", (1, 1, 1), (8, 16, 32), "small"),
    "resnet8_slim": ResNetSpec("basic", (1, 1, 1), (16, 32, 64), "small"),
    "resnet10_slim": ResNetSpec("basic", (1, 1, 1, 1), (16, 32, 64, 128), "small"),
    "resnet14_slim": ResNetSpec("basic", (2, 2, 2), (16, 32, 64), "small"),
    "mobilenet_v2": MobileNetV2Spec(),
    "efficientnet_b0": EfficientNetSpec(1.0, 1.0, 0.2, 224, 0.39),
    "efficientnet_b1": EfficientNetSpec(1.0, 1.1, 0.2, 240, 0.70),
    "efficientnet_b2": EfficientNetSpec(1.1, 1.2, 0.3, 260, 1.00),
    "efficientnet_b3": EfficientNetSpec(1.2, 1.4, 0.3, 300, 1.80),
    "efficientnet_b4": EfficientNetSpec(1.4, 1.8, 0.4, 380, 4.20),
    "efficientnet_b5": EfficientNetSpec(1.6, 2.2, 0.4, 456, 9.90),
}

_MOBILENET_WIDTH = re.compile(r"mobilenet_v2_(\d+(?:\.\d+)?)")


def architecture(name: str) -> Spec:
    """The specification behind a backbone's name.

    Args:
        name: a key of `ARCHITECTURES`, or 'mobilenet_v2_W' with a width multiplier W such as 0.35.

    Raises:
        UserError: no backbone has that name; the message suggests a near one.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    match = _MOBILENET_WIDTH.fullmatch(name)
    if match and float(match.group(1)) > 0:
        return MobileNetV2Spec(float(match.group(1)))
    near = difflib.get_close_matches(name, ARCHITECTURES, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(
        f"unknown backbone {name!r}: {hint}Known are {', '.join(ARCHITECTURES)}, "
        "and mobilenet_v2_W with a width multiplier W, such as mobilenet_v2_0.35."
    )


def feature_dim(name: str) -> int:
    """Width of the named backbone's pooled feature vector."""
    return architecture(name).features


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Rounds a channel count to a multiple of `divisor`, never losing more than a tenth of it.

    MobileNetV2 and EfficientNet share this rule.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
