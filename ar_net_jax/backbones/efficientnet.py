"""EfficientNet (Tan and Le 2019), with the padding rules that its weights were trained under."""

import dataclasses
from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jax.typing import DTypeLike

from ar_net_jax.backbones import mbconv
from ar_net_jax.backbones.base import Backbone, Counted, Trained
from ar_net_jax.backbones.layouts import Layout
from ar_net_jax.errors import UserError

TENSORFLOW = Trained(("same", "static"), "tensorflow")
"""Of the authors' weights: 'same' at the native size, for which 'static' is the same."""

_PYTORCH = Trained(("symmetric",), "pytorch")

_PAPER_SIZE = 224
"""Side in pixels that AR-Net's paper takes the published GFLOPs to be for."""

_PAPER_NOTE = (
    "EfficientNet under paper: the published figure, taken to be for 224 px although it is for "
    "the variant's native size; this overstates the larger variants. macs is what is computed."
)


@dataclasses.dataclass(frozen=True)
class EfficientNetBackbone(Backbone):
    """One EfficientNet and what is known of it.

    Attributes:
        spec: the network.
        published_gflops: what its authors state, for the native size.
        torchvision: settings of torchvision's own weights.
    """

    name: str
    spec: mbconv.MBConvSpec
    features: int
    published_gflops: float
    native_size: int = 224
    imagenet_weights: str = ""
    torchvision: Trained = _PYTORCH
    released_layouts: tuple[str, ...] = ("efficientnet_pytorch",)
    released_settings: Trained = Trained(("static",), "tensorflow")
    paper_note: str = _PAPER_NOTE

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
        """The names of torchvision, timm and efficientnet_pytorch."""
        layers = mbconv.efficientnet_pytorch_layers(self.spec)
        return {
            "torchvision": Layout(mbconv.torchvision_layers(self.spec), "classifier.1"),
            "timm": Layout(mbconv.timm_layers(self.spec), "classifier"),
            "efficientnet_pytorch": Layout(layers, "_fc"),
        }

    def trained_with(self, layout: str, origin: str) -> Trained:
        """The settings of a source; timm has weights of two, told apart by the model's name."""
        if layout == "torchvision":
            return self.torchvision
        if layout == "efficientnet_pytorch":
            return TENSORFLOW._replace(paddings=("static", "same"))
        if origin.startswith("tf_efficientnet"):
            return TENSORFLOW
        if origin.startswith("efficientnet_b"):
            return _PYTORCH
        raise UserError(
            "timm has two kinds of EfficientNet, which pad differently, and the file does not say "
            "which this is; let its name start with tf_efficientnet or efficientnet_b, as on the "
            "hub"
        )

    def paper_gflops(self, resolution: int, count: Callable[[], Counted]) -> float:
        """The published figure times (resolution / 224)^2, which overstates larger variants."""
        return self.published_gflops * (resolution / _PAPER_SIZE) ** 2


def _variant(
    name: str,
    width: float,
    depth: float,
    native_size: int,
    published_gflops: float,
    torchvision: Trained = _PYTORCH,
) -> EfficientNetBackbone:
    spec = mbconv.MBConvSpec(width, depth, native_size)
    return EfficientNetBackbone(
        name,
        spec,
        spec.features,
        published_gflops,
        native_size,
        imagenet_weights=f"timm/tf_{name}.aa_in1k",
        torchvision=torchvision,
    )


VARIANTS = (
    _variant("efficientnet_b0", 1.0, 1.0, 224, 0.39),
    _variant("efficientnet_b1", 1.0, 1.1, 240, 0.70),
    _variant("efficientnet_b2", 1.1, 1.2, 260, 1.00),
    _variant("efficientnet_b3", 1.2, 1.4, 300, 1.80),
    _variant("efficientnet_b4", 1.4, 1.8, 380, 4.20),
    # From B5 on torchvision has TensorFlow's BatchNorm, and its own padding all the same.
    _variant("efficientnet_b5", 1.6, 2.2, 456, 9.90, _PYTORCH._replace(norm="tensorflow")),
)
"""B0 to B5, with the authors' weights as timm and efficientnet_pytorch converted them."""
