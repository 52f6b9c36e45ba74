"""Uniform (Table 1): one backbone on every frame, predictions averaged."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.config.config import ModelConfig
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones, run_on_frames
from ar_net_jax.modules.heads import frame_classifier
from ar_net_jax.modules.multi_backbone import Prediction, backbone_name
from ar_net_jax.ops.routing import masked_average

Array = jax.Array


class Uniform(nn.Module):
    """A frame-averaging classifier.

    Attributes:
        config: the model's config, with one resolution and one backbone.
    """

    config: ModelConfig

    def setup(self) -> None:
        """Declares the classifier under the name it has in a multi-backbone model."""
        self.backbone_0 = frame_classifier(self.config, 0)

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `ARNet`. The only action is the one resolution."""
        mask = mask_or_ones(frame_mask, frames)
        logits, computed = run_on_frames(
            self.backbone_0,
            frames,
            mask,
            mode,
            index=0,
            size=self.config.resolutions[0],
            resize=self.config.resize,
        )
        logits, weights = logits[:, :, None], mask[..., None].astype(jnp.float32)
        average = masked_average(logits, weights)
        return Prediction(average, weights, logits, None, computed[None])

    def classify_separately(
        self, frames: Array, mode: Mode = EVALUATION, *, with_policy: bool = True
    ) -> dict[str, Array]:
        """The same prediction under the backbone's name, as `MultiBackbone` gives it."""
        del with_policy  # There is none.
        return {backbone_name(0): self(frames, mode).logits}
