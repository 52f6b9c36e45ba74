"""Multi-Scale (Table 1): every resolution on every frame, all predictions averaged."""

import jax
import jax.numpy as jnp

from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones
from ar_net_jax.modules.multi_backbone import MultiBackbone, Prediction
from ar_net_jax.ops.routing import masked_average

Array = jax.Array


class MultiScale(MultiBackbone):
    """Averages the predictions of all resolutions on all frames."""

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `ARNet`. Every action has weight one."""
        features = self.policy_features(frames, mode, frame_mask)
        decisions = self.policy.decide(features[0])
        mask = mask_or_ones(frame_mask, frames)
        weights = jnp.ones((*mask.shape, len(self.config.resolutions))) * mask[..., None]
        selected = weights > 0
        frame_logits, computed = self.frame_logits(frames, mode, features, decisions, selected)
        logits = masked_average(frame_logits, weights)
        return Prediction(logits, weights, frame_logits, None, computed)
