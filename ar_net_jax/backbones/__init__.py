"""Temporary."""

from ar_net_jax.backbones.architectures import ARCHITECTURES, architecture

_W = {
    "resnet18": "timm/resnet18.tv_in1k",
    "resnet34": "timm/resnet34.tv_in1k",
    "resnet50": "timm/resnet50.tv_in1k",
    "resnet101": "timm/resnet101.tv_in1k",
    "mobilenet_v2": "timm/mobilenetv2_100.ra_in1k",
    **{f"efficientnet_b{i}": f"timm/tf_efficientnet_b{i}.aa_in1k" for i in range(6)},
}


class Backbone:
    pass


class _B:
    def __init__(self, n):
        self.name = n
        self.imagenet_weights = _W.get(n, "")
        self.packaged_weights = ""
        self.features = architecture(n).features


def get(n):
    return _B(n)


def names():
    return tuple(ARCHITECTURES)


def register(b):
    return b
