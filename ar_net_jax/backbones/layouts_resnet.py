"""Names of a ResNet's layers; torchvision and timm agree on them."""

from ar_net_jax.backbones.architectures import ResNetSpec
from ar_net_jax.backbones.layout_modules import Module


def torchvision(spec: ResNetSpec) -> list[Module]:
    """Layers under the names of `torchvision.models.resnet`."""
    modules = [Module("conv", "conv1", ("conv1",)), Module("norm", "bn1", ("bn1",))]
    channels = spec.widths[0]
    for stage, (depth, width) in enumerate(zip(spec.depths, spec.widths), start=1):
        for i in range(depth):
            name, path = f"layer{stage}.{i}", f"layer{stage}_{i}"
            for layer in range(1, 4 if spec.block == "bottleneck" else 3):
                modules.append(Module("conv", f"{name}.conv{layer}", (path, f"conv{layer}")))
                modules.append(Module("norm", f"{name}.bn{layer}", (path, f"bn{layer}")))
            features = width * spec.expansion
            if (stage > 1 and i == 0) or channels != features:
                modules.append(Module("conv", f"{name}.downsample.0", (path, "downsample_0")))
                modules.append(Module("norm", f"{name}.downsample.1", (path, "downsample_1")))
            channels = features
    return modules
