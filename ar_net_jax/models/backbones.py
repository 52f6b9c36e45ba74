"""From a backbone's name to its Linen module."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.architectures import MobileNetV2Spec, ResNetSpec, architecture
from ar_net_jax.models.efficientnet import EfficientNet
from ar_net_jax.models.mobilenet_v2 import MobileNetV2
from ar_net_jax.models.resnet import ResNet


def make_backbone(
    name: str,
    *,
    dtype: DTypeLike = jnp.float32,
    padding: str = "same",
    module_name: str | None = None,
) -> nn.Module:
    """Builds the module that turns normalised frames [N, H, W, 3] into features float32 [N, D].

    Args:
        name: of the architecture, see `ar_net_jax.architectures`.
        dtype: of the computation; parameters are float32 always.
        padding: rule of an EfficientNet's convolutions; the others have one fixed rule.
        module_name: the submodule's name in a parent module.

    Raises:
        UserError: no backbone has that name.
    """
    spec = architecture(name)
    if isinstance(spec, ResNetSpec):
        return ResNet(spec=spec, dtype=dtype, name=module_name)
    if isinstance(spec, MobileNetV2Spec):
        return MobileNetV2(spec=spec, dtype=dtype, name=module_name)
    return EfficientNet(spec=spec, padding=padding, dtype=dtype, name=module_name)
