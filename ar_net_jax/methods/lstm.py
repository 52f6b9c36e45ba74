"""LSTM (Table 1): features of one backbone through an LSTM, per-step predictions averaged."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.backbones.architectures import feature_dim
from ar_net_jax.config.config import ModelConfig
from ar_net_jax.modules.frame_runner import (
    EVALUATION,
    Mode,
    flatten_frames,
    mask_or_ones,
    run_on_frames,
)
from ar_net_jax.modules.heads import POLICY_SALT, Linear, frame_classifier
from ar_net_jax.modules.multi_backbone import Prediction
from ar_net_jax.modules.recurrence import LSTMCell, lstm_step
from ar_net_jax.ops.rng import dropout, per_frame_keys
from ar_net_jax.ops.routing import masked_average

Array = jax.Array


class LSTMBaseline(nn.Module):
    """A recurrent classifier over the features of every frame.

    Attributes:
        config: the model's config, with one resolution and one backbone; the LSTM's width and
            dropout are those of `config.policy`.
    """

    config: ModelConfig

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        self.backbone_0 = frame_classifier(cfg, 0)
        self.lstm = LSTMCell(feature_dim(cfg.backbones[0]), cfg.policy.hidden_size)
        self.head = Linear(cfg.policy.hidden_size, cfg.num_classes)

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `ARNet`. The only action is the one resolution."""
        mask = mask_or_ones(frame_mask, frames)
        features, computed = run_on_frames(
            self.backbone_0,
            frames,
            mask,
            mode,
            index=0,
            size=self.config.resolutions[0],
            resize=self.config.resize,
            method="features",
        )
        keys = per_frame_keys(mode.keys, frames.shape[1]) if mode.train else None
        dropped = dropout(flatten_frames(features), self.config.policy.dropout, keys, POLICY_SALT)
        logits = self.head(self._unroll(dropped.reshape(features.shape)))[:, :, None]
        weights = mask[..., None].astype(jnp.float32)
        average = masked_average(logits, weights)
        return Prediction(average, weights, logits, None, computed[None])

    def _unroll(self, features: Array) -> Array:
        """Hidden states float32 [B, T, H] of features [B, T, D]."""
        recurrent = self.lstm.recurrent()

        def step(state: tuple[Array, Array], projected: Array) -> tuple[tuple, Array]:
            hidden, cell = lstm_step(projected, *state, recurrent)
            return (hidden, cell), hidden

        zeros = jnp.zeros((features.shape[0], self.config.policy.hidden_size))
        projected = jnp.swapaxes(self.lstm.project(features), 0, 1)
        _, hidden = jax.lax.scan(step, (zeros, zeros), projected)
        return jnp.swapaxes(hidden, 0, 1)
