"""Names of MobileNetV2's layers in torchvision, old and new, and in timm."""

from collections.abc import Iterator

from ar_net_jax.backbones.architectures import MobileNetV2Spec
from ar_net_jax.backbones.layout_modules import Module
from ar_net_jax.backbones.mobilenet_v2 import STAGES

# Names of a block's three layers and their norms, as (convolution, norm); the first pair, which
# expands, is left out where there is nothing to expand.
_Pairs = tuple[tuple[str, str], tuple[str, str], tuple[str, str]]

_OURS: _Pairs = (("conv_0_0", "conv_0_1"), ("conv_1_0", "conv_1_1"), ("conv_2", "conv_3"))
_OURS_FIRST: _Pairs = (("", ""), ("conv_0_0", "conv_0_1"), ("conv_1", "conv_2"))


def torchvision(spec: MobileNetV2Spec) -> list[Module]:
    """Layers under the names of `torchvision.models.mobilenet_v2`; the width changes none."""
    pairs: _Pairs = (("conv.0.0", "conv.0.1"), ("conv.1.0", "conv.1.1"), ("conv.2", "conv.3"))
    first: _Pairs = (("", ""), ("conv.0.0", "conv.0.1"), ("conv.1", "conv.2"))
    return _torchvision(pairs, first)


def torchvision_old(spec: MobileNetV2Spec) -> list[Module]:
    """Layers as torchvision named them when a block was one flat sequence."""
    pairs: _Pairs = (("conv.0", "conv.1"), ("conv.3", "conv.4"), ("conv.6", "conv.7"))
    first: _Pairs = (("", ""), ("conv.0", "conv.1"), ("conv.3", "conv.4"))
    return _torchvision(pairs, first)


def timm(spec: MobileNetV2Spec) -> list[Module]:
    """Layers under the names of timm's `mobilenetv2_100`."""
    pairs: _Pairs = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))
    first: _Pairs = (("", ""), ("conv_dw", "bn1"), ("conv_pw", "bn2"))
    modules = _pair("conv", ("conv_stem", "bn1"), ("features_0_0", "features_0_1"))
    for index, stage, i, expands in _blocks():
        modules += _block(f"blocks.{stage}.{i}", index, pairs if expands else first, expands)
    last = f"features_{index + 1}"
    return modules + _pair("conv", ("conv_head", "bn2"), (f"{last}_0", f"{last}_1"))


def _torchvision(pairs: _Pairs, first: _Pairs) -> list[Module]:
    stem = "features_0_0", "features_0_1"
    modules = _pair("conv", ("features.0.0", "features.0.1"), stem)
    for index, _, _, expands in _blocks():
        modules += _block(f"features.{index}", index, pairs if expands else first, expands)
    last = index + 1
    theirs = f"features.{last}.0", f"features.{last}.1"
    return modules + _pair("conv", theirs, (f"features_{last}_0", f"features_{last}_1"))


def _blocks() -> Iterator[tuple[int, int, int, bool]]:
    """Yields number of the block from 1, its stage, its number in the stage, if it expands."""
    index = 0
    for stage, (expansion, _, depth, _) in enumerate(STAGES):
        for i in range(depth):
            index += 1
            yield index, stage, i, expansion != 1


def _block(source: str, index: int, theirs: _Pairs, expands: bool) -> list[Module]:
    ours = _OURS if expands else _OURS_FIRST
    modules = []
    for kind, (conv, norm), (our_conv, our_norm) in zip(
        ("conv", "depthwise", "conv"), theirs, ours
    ):
        if conv:
            modules.append(Module(kind, f"{source}.{conv}", (f"features_{index}", our_conv)))
            modules.append(Module("norm", f"{source}.{norm}", (f"features_{index}", our_norm)))
    return modules


def _pair(kind: str, theirs: tuple[str, str], ours: tuple[str, str]) -> list[Module]:
    return [Module(kind, theirs[0], (ours[0],)), Module("norm", theirs[1], (ours[1],))]
