"""LSTM (Table 1): features of one backbone through an LSTM, per-step predictions averaged."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.architectures import feature_dim
from ar_net_jax.config import ModelConfig
from ar_net_jax.models.classifier import POLICY_SALT, FrameClassifier, Linear
from ar_net_jax.models.frames import prepare_frames
from ar_net_jax.models.lstm_cell import LSTMCell, lstm_step
from ar_net_jax.models.multi_backbone import (
    EVALUATION,
    Mode,
    Prediction,
    flatten_frames,
    mask_or_ones,
)
from ar_net_jax.models.random import dropout, per_frame_keys
from ar_net_jax.models.routing import masked_average

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
        name = cfg.backbones[0]
        self.backbone_0 = FrameClassifier(
            name, cfg.num_classes, cfg.dropout, jnp.dtype(cfg.dtype), cfg.padding
        )
        self.lstm = LSTMCell(feature_dim(name), cfg.policy.hidden_size)
        self.head = Linear(cfg.policy.hidden_size, cfg.num_classes)

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `ARNet`. The only action is the one resolution."""
        batch, length = frames.shape[:2]
        keys = per_frame_keys(mode.keys, length) if mode.train else None
        x = prepare_frames(flatten_frames(frames), self.config.resolutions[0], self.config.resize)
        features = self.backbone_0.features(x, train=mode.train, keys=keys)
        features = dropout(features, self.config.policy.dropout, keys, POLICY_SALT)
        hidden = self._unroll(features.reshape(batch, length, -1))
        logits = self.head(hidden)[:, :, None]
        weights = mask_or_ones(frame_mask, frames)[..., None].astype(jnp.float32)
        return Prediction(masked_average(logits, weights), weights, logits)

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
