"""AR-Net (Section 3): the policy decides, per frame, which resolution or skip; training form."""

import jax

from ar_net_jax.models.gumbel import gumbel_noise
from ar_net_jax.models.multi_backbone import (
    EVALUATION,
    Mode,
    MultiBackbone,
    Prediction,
    mask_or_ones,
)
from ar_net_jax.models.policy import Sampling

Array = jax.Array

# Keeps the decisions' noise apart from the dropout masks drawn from the same keys.
NOISE_SALT = 2_000


class ARNet(MultiBackbone):
    """Masked AR-Net: all backbones on all frames, weighted by the policy's decisions."""

    def __call__(
        self,
        frames: Array,
        mode: Mode = EVALUATION,
        *,
        frame_mask: Array | None = None,
        proposals: Array | None = None,
    ) -> Prediction:
        """Classifies videos.

        Args:
            frames: uint8 [B, T, S, S, 3], S = `config.image_size`.
            mode: training behaviour, keys, temperature.
            frame_mask: bool [B, T], False on padding at the end of a video.
            proposals: int32 [B, T], decisions imposed instead of the policy's own.
        """
        features = self.policy_features(frames, mode)
        sampling = self._sampling(mode, frames.shape[1])
        decisions = self.policy.decide(features, sampling=sampling, proposals=proposals)
        mask = mask_or_ones(frame_mask, frames)
        return self.predict_under(frames, mode, features, decisions, mask)

    def _sampling(self, mode: Mode, length: int) -> Sampling | None:
        if mode.tau is None:
            return None
        keys = jax.vmap(lambda key: jax.random.fold_in(key, NOISE_SALT))(mode.keys)
        noise = gumbel_noise(keys, length, self.config.space.num_actions)
        return Sampling(noise, mode.tau)
