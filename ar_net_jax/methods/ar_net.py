"""AR-Net (Section 3): the policy decides, per frame, which resolution or skip."""

import jax

from ar_net_jax.modules.frame_runner import EVALUATION, Mode
from ar_net_jax.modules.multi_backbone import MultiBackbone, Prediction, backbone_name
from ar_net_jax.modules.policy import Decisions, PolicyState, Sampling
from ar_net_jax.ops.gumbel import gumbel_noise
from ar_net_jax.ops.resize import prepare_frames

Array = jax.Array

# Keeps the decisions' noise apart from the dropout masks drawn from the same keys.
NOISE_SALT = 2_000


class ARNet(MultiBackbone):
    """The backbones under the policy's decisions."""

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
        features, decisions = self.decide(frames, mode, frame_mask=frame_mask, proposals=proposals)
        return self.predict_under(frames, mode, features, decisions, frame_mask)

    def decide(
        self,
        frames: Array,
        mode: Mode = EVALUATION,
        *,
        frame_mask: Array | None = None,
        proposals: Array | None = None,
    ) -> tuple[tuple[Array, Array], Decisions]:
        """The policy's part of a call: its features as from `policy_features`, and its decisions.

        Args as in a call.
        """
        features = self.policy_features(frames, mode, frame_mask)
        sampling = self._sampling(mode, frames.shape[1])
        decisions = self.policy.decide(
            features[0], sampling=sampling, proposals=proposals, offsets=mode.offsets
        )
        return features, decisions

    def _sampling(self, mode: Mode, length: int) -> Sampling | None:
        if mode.tau is None:
            return None
        keys = jax.vmap(lambda key: jax.random.fold_in(key, NOISE_SALT))(mode.keys)
        noise = gumbel_noise(keys, length, self.config.space.num_actions)
        return Sampling(noise, mode.tau)

    def look_at(
        self, frame: Array, state: PolicyState, offsets: Array | None = None
    ) -> tuple[PolicyState, Decisions, Array | None]:
        """The policy's part of one frame, for videos that arrive frame by frame.

        Args:
            frame: uint8 [B, S, S, 3].
            state: from `policy.initial_state` or from the frame before.
            offsets: as in `Mode`.

        Returns:
            The next state, the decisions on this frame, and the lowest resolution's logits
            float32 [B, C], or None where the policy's own prediction is no action.
        """
        features, _ = self.policy_features(frame[:, None], EVALUATION)
        features = features[:, 0]
        state, decisions = self.policy.decide_frame(state, features, offsets=offsets)
        lowest = None
        if self.config.policy.is_action:
            lowest = self.policy.lowest_logits(features, decisions)
        return state, decisions, lowest

    def classify_frame(self, frame: Array, index: int) -> Array:
        """One backbone's logits float32 [B, C] on one frame of each video, uint8 [B, S, S, 3]."""
        x = prepare_frames(frame, self.config.resolutions[index], self.config.resize)
        return getattr(self, backbone_name(index))(x)

    def first_state(self, batch: int) -> PolicyState:
        """The policy's state before the first frame of `batch` videos."""
        return self.policy.initial_state(batch)
