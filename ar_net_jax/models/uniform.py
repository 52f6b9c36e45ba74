"""Uniform (Table 1): one backbone on every frame, predictions averaged."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.config import ModelConfig
from ar_net_jax.models.classifier import FrameClassifier
from ar_net_jax.models.frames import prepare_frames
from ar_net_jax.models.multi_backbone import (
    EVALUATION,
    Mode,
    Prediction,
    backbone_name,
    flatten_frames,
    mask_or_ones,
)
from ar_net_jax.models.random import per_frame_keys
from ar_net_jax.models.routing import masked_average

Array = jax.Array


class Uniform(nn.Module):
    """A frame-averaging classifier.

    Attributes:
        config: the model's config, with one resolution and one backbone.
    """

    config: ModelConfig

    def setup(self) -> None:
        """Declares the classifier under the name it has in a multi-backbone model."""
        cfg = self.config
        self.backbone_0 = FrameClassifier(
            cfg.backbones[0], cfg.num_classes, cfg.dropout, jnp.dtype(cfg.dtype), cfg.padding
        )

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `ARNet`. The only action is the one resolution."""
        batch, length = frames.shape[:2]
        keys = per_frame_keys(mode.keys, length) if mode.train else None
        x = prepare_frames(flatten_frames(frames), self.config.resolutions[0], self.config.resize)
        logits = self.backbone_0(x, train=mode.train, keys=keys).reshape(batch, length, 1, -1)
        weights = mask_or_ones(frame_mask, frames)[..., None].astype(jnp.float32)
        return Prediction(masked_average(logits, weights), weights, logits)

    def classify_separately(
        self, frames: Array, mode: Mode = EVALUATION, *, with_policy: bool = True
    ) -> dict[str, Array]:
        """The same prediction under the backbone's name, as `MultiBackbone` gives it."""
        del with_policy  # There is none.
        return {backbone_name(0): self(frames, mode).logits}
