"""From a backbone's name to its Linen module."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.backbones.architectures import MobileNetV2Spec, ResNetSpec, architecture
from ar_net_jax.backbones.efficientnet import EfficientNet
from ar_net_jax.backbones.mobilenet_v2 import MobileNetV2
from ar_net_jax.backbones.resnet import ResNet


def make_backbone(
    name: str,
    *,
    dtype: DTypeLike = jnp.float32,
    padding: str = "same",
    norm: str = "tensorflow",
    remat: bool = False,
    module_name: str | None = None,
) -> nn.Module:
    """Builds the module that turns normalised frames [N, H, W, 3] into features float32 [N, D].

    Args:
        name: of the architecture, see `ar_net_jax.backbones.architectures`.
        dtype: of the computation; parameters are float32 always.
        padding: rule of an EfficientNet's convolutions; the others have one fixed rule.
        norm: settings of an EfficientNet's BatchNorms; the others have PyTorch's.
        remat: keep only what enters each block for the backward pass.
        module_name: the submodule's name in a parent module.

    Raises:
        UserError: no backbone has that name.
    """
    spec = architecture(name)
    shared = {"dtype": dtype, "remat": remat, "name": module_name}
    if isinstance(spec, ResNetSpec):
        return ResNet(spec=spec, **shared)
    if isinstance(spec, MobileNetV2Spec):
        return MobileNetV2(spec=spec, **shared)
    return EfficientNet(spec=spec, padding=padding, norm=norm, **shared)
