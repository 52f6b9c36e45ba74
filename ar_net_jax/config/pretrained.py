"""The part of the configuration that names ImageNet weights to start from."""

from collections.abc import Sequence
from dataclasses import dataclass

from ar_net_jax.config.schema import require


@dataclass(frozen=True)
class PretrainedConfig:
    """ImageNet weights that a run starts from; what they are and where they are looked for.

    A source is a name on the Hugging Face hub such as `timm/resnet50.tv_in1k`, or a file that ends
    in `.pth` or `.safetensors`, such as torchvision's `resnet50-0676ba61.pth`.

    Attributes:
        backbones: one source for each of `model.backbones`, an empty one for none; or `()`.
        policy: source of the policy's feature extractor; empty for none.
        folder: where files lie, and where hub names are looked up instead of on the network, as
            `FOLDER/resnet50.tv_in1k.safetensors`. Empty: paths are taken as they are, and hub
            names are downloaded.
    """

    backbones: tuple[str, ...] = ()
    policy: str = ""
    folder: str = ""

    def validate(self, path: str, backbones: Sequence[str], has_policy: bool) -> None:
        """Raises UserError, naming the field, if it does not go with the model.

        Args:
            path: of this part in the whole config.
            backbones: of the model.
            has_policy: whether the model has a policy network.
        """
        require(
            len(self.backbones) in (0, len(backbones)),
            f"{path}.backbones",
            f"{len(self.backbones)} given, but model.backbones are {len(backbones)}: give one "
            "source for each, empty for none (and the variant `imagenet` after all others)",
        )
        require(
            has_policy or not self.policy,
            f"{path}.policy",
            "the approach has no policy network; leave it empty",
        )
