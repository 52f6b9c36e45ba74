"""Uniform (Table 1): one backbone on every frame, predictions averaged."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network
from ar_net_jax.methods.base import Method
from ar_net_jax.methods.stages import StageConfig, baseline_stages
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones, run_on_frames
from ar_net_jax.modules.heads import check_backbone, frame_classifier
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.routing import masked_average

Array = jax.Array


@dataclass(frozen=True)
class UniformConfig(ModelConfig):
    """A model of one backbone.

    Attributes:
        backbone: its name.
        resolution: side in pixels at which it sees every frame.
    """

    backbone: str = "resnet50"
    resolution: int = 224

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        check_backbone(self.backbone, f"{path}.backbone")
        require(self.resolution >= 1, f"{path}.resolution", "must be at least 1 pixel")


class UniformModule(nn.Module):
    """A frame-averaging classifier.

    Attributes:
        config: the model's config.
    """

    config: UniformConfig

    def setup(self) -> None:
        """Declares the classifier under the name it has in a multi-backbone model."""
        self.backbone_0 = frame_classifier(self.config, self.config.backbone)

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`."""
        cfg, mask = self.config, mask_or_ones(frame_mask, frames)
        name = network_name(cfg.resolution)
        logits, executed = run_on_frames(
            self.backbone_0, frames, mask, mode, name=name, size=cfg.resolution, resize=cfg.resize
        )
        weights = mask.astype(jnp.float32)
        average = masked_average(logits[:, :, None], weights[..., None])
        return Prediction(
            average,
            {name: jnp.sum(weights, 1)},
            {name: executed},
            network_logits={"backbone_0": average},
        )

    def classify_separately(
        self, frames: Array, mode: Mode = EVALUATION, *, names: tuple[str, ...]
    ) -> dict[str, Array]:
        """The same prediction under the module's name, as a multi-backbone model gives it."""
        del names
        return dict(self(frames, mode).network_logits)


class Uniform(Method[UniformConfig]):
    """The same network on every frame, whatever it shows."""

    name = "uniform"
    title = "Uniform"
    Config = UniformConfig
    separable = True

    def module(self) -> UniformModule:
        """See `Method`."""
        return UniformModule(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`."""
        cfg = self.config
        return {
            network_name(cfg.resolution): Network(
                path=("backbone_0",),
                backbone=cfg.backbone,
                resolution=cfg.resolution,
                outputs=cfg.num_classes,
                heads=("head",),
                padding=cfg.padding,
            )
        }

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: as long as AR-Net's."""
        return baseline_stages(cls.Stage)


def network_name(resolution: int) -> str:
    """Name of the network at a resolution, as in a multi-backbone model."""
    return f"{resolution}px"
