"""Multi-Scale (Table 1): every resolution on every frame, all predictions averaged."""

import jax
import jax.numpy as jnp

from ar_net_jax.models.multi_backbone import (
    EVALUATION,
    Mode,
    MultiBackbone,
    Prediction,
    mask_or_ones,
)
from ar_net_jax.models.routing import masked_average

Array = jax.Array


class MultiScale(MultiBackbone):
    """Averages the predictions of all resolutions on all frames."""

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `ARNet`. Every action has weight one."""
        features = self.policy_features(frames, mode)
        decisions = self.policy.decide(features)
        frame_logits = self.frame_logits(frames, mode, features, decisions)
        mask = mask_or_ones(frame_mask, frames)
        weights = jnp.ones(frame_logits.shape[:3]) * mask[..., None]
        return Prediction(masked_average(frame_logits, weights), weights, frame_logits)
