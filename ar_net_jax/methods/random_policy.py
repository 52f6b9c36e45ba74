"""Random policy (Table 1): AR-Net's backbones under independent, uniformly random actions.

As released: a skip drops only the frame it is drawn for, and training draws actions too.
"""

import jax

from ar_net_jax.modules.frame_runner import EVALUATION, Mode
from ar_net_jax.modules.multi_backbone import MultiBackbone, Prediction

Array = jax.Array

ACTION_SALT = 2_001


class RandomPolicy(MultiBackbone):
    """AR-Net whose decisions are drawn, not learned; `mode.keys` is always needed."""

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `ARNet`."""
        proposals = self._draw(mode.keys, frames.shape[1])
        features = self.policy_features(frames, mode, frame_mask)
        decisions = self.policy.decide(features[0], proposals=proposals, use_skips=False)
        return self.predict_under(frames, mode, features, decisions, frame_mask)

    def _draw(self, keys: Array, length: int) -> Array:
        """Independent uniform actions int32 [B, T], each video's from its own key."""
        if keys is None:
            raise ValueError("the random policy draws its actions: give mode.keys")
        count = self.config.space.num_actions

        def one(key: Array) -> Array:
            return jax.random.randint(jax.random.fold_in(key, ACTION_SALT), (length,), 0, count)

        return jax.vmap(one)(keys)
