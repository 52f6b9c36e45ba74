"""Names of EfficientNet's layers in efficientnet_pytorch, timm and torchvision."""

from collections.abc import Iterator, Mapping

from ar_net_jax.backbones.architectures import EfficientNetSpec
from ar_net_jax.backbones.efficientnet import STAGES, stage_depths
from ar_net_jax.backbones.layout_modules import Module

# A block's layers in order: kind, name here.
_LAYERS = (
    ("conv", "expand_conv"),
    ("norm", "bn0"),
    ("depthwise", "depthwise_conv"),
    ("norm", "bn1"),
    ("conv", "se_reduce"),
    ("conv", "se_expand"),
    ("conv", "project_conv"),
    ("norm", "bn2"),
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


def efficientnet_pytorch(spec: EfficientNetSpec) -> list[Module]:
    """Layers under the names of the package efficientnet_pytorch: ours, with underscores."""
    names = {ours: f"_{ours}" for _, ours in _LAYERS}
    modules = _ends(("_conv_stem", "_bn0"), ("_conv_head", "_bn1"))
    for index, _, _, expands in _blocks(spec):
        modules += _block(f"_blocks.{index}", index, names, expands)
    return modules


def timm(spec: EfficientNetSpec) -> list[Module]:
    """Layers under the names of timm's `efficientnet_*` and `tf_efficientnet_*`."""
    modules = _ends(("conv_stem", "bn1"), ("conv_head", "bn2"))
    for index, stage, i, expands in _blocks(spec):
        names = _TIMM if expands else _TIMM_FIRST
        modules += _block(f"blocks.{stage}.{i}", index, names, expands)
    return modules


def torchvision(spec: EfficientNetSpec) -> list[Module]:
    """Layers under the names of `torchvision.models.efficientnet`."""
    last = len(STAGES) + 1
    stem, head = (tuple(f"features.{i}.{j}" for j in (0, 1)) for i in (0, last))
    modules = _ends(stem, head)
    for index, stage, i, expands in _blocks(spec):
        names = _TORCHVISION if expands else _TORCHVISION_FIRST
        modules += _block(f"features.{stage + 1}.{i}", index, names, expands)
    return modules


def _ends(stem: tuple[str, ...], head: tuple[str, ...]) -> list[Module]:
    return [
        Module("conv", stem[0], ("conv_stem",)),
        Module("norm", stem[1], ("bn0",)),
        Module("conv", head[0], ("conv_head",)),
        Module("norm", head[1], ("bn1",)),
    ]


def _blocks(spec: EfficientNetSpec) -> Iterator[tuple[int, int, int, bool]]:
    """Yields number of the block, its stage, its number in the stage, and if it expands."""
    index = 0
    for stage, (row, depth) in enumerate(zip(STAGES, stage_depths(spec), strict=True)):
        for i in range(depth):
            yield index, stage, i, row.expansion != 1
            index += 1


def _block(source: str, index: int, names: Mapping[str, str], expands: bool) -> list[Module]:
    return [
        Module(kind, f"{source}.{names[ours]}", (f"blocks_{index}", ours), ours.startswith("se_"))
        for kind, ours in _LAYERS
        if expands or ours not in ("expand_conv", "bn0")
    ]
