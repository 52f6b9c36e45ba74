"""The set of networks that AR-Net, Random policy and Multi-Scale share.

One classifier per resolution, the lowest of them inside the policy network where the policy's own
prediction is an action. The three approaches differ only in how they weight the predictions.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax.config import ModelConfig
from ar_net_jax.models.classifier import FrameClassifier
from ar_net_jax.models.frames import prepare_frames
from ar_net_jax.models.policy import Decisions, PolicyNetwork
from ar_net_jax.models.random import per_frame_keys
from ar_net_jax.models.routing import masked_average

Array = jax.Array

POLICY = "policy"


@flax.struct.dataclass
class Prediction:
    """What a model makes of B videos.

    Attributes:
        logits: float32 [B, C].
        one_hot: float32 [B, T, A], the action of every frame; zero on padding.
        frame_logits: float32 [B, T, L, C], every resolution's prediction on every frame.
        policy_logits: float32 [B, T, A], or None without a policy network.
    """

    logits: Array
    one_hot: Array
    frame_logits: Array
    policy_logits: Array | None = None

    @property
    def actions(self) -> Array:
        """int32 [B, T], the index of the action of every frame."""
        return jnp.argmax(self.one_hot, axis=-1).astype(jnp.int32)


@flax.struct.dataclass
class Mode:
    """How a call treats the parts of a model; everything is off in evaluation.

    Attributes:
        train: batch statistics and dropout of the backbones.
        train_policy: the same of the policy network.
        keys: one key per video [B], needed when either of the two is on or decisions are sampled.
        tau: temperature of sampled decisions; None decides by argmax.
    """

    train: bool = flax.struct.field(pytree_node=False, default=False)
    train_policy: bool = flax.struct.field(pytree_node=False, default=False)
    keys: Array | None = None
    tau: Array | float | None = None


EVALUATION = Mode()
"""No dropout, running statistics, decisions by argmax."""


def mask_or_ones(frame_mask: Array | None, frames: Array) -> Array:
    """The frame mask bool [B, T], all True where none is given."""
    return jnp.ones(frames.shape[:2], bool) if frame_mask is None else frame_mask


def flatten_frames(frames: Array) -> Array:
    """[B, T, ...] -> [B * T, ...]."""
    return frames.reshape(-1, *frames.shape[2:])


def backbone_name(index: int) -> str:
    """Name of the classifier of the index-th resolution in the parameter tree."""
    return f"backbone_{index}"


class MultiBackbone(nn.Module):
    """The classifiers and the policy network; subclasses define `__call__`.

    Attributes:
        config: the model's config.
    """

    config: ModelConfig

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        dtype = jnp.dtype(cfg.dtype)
        for i, name in enumerate(cfg.backbones):
            classifier = FrameClassifier(name, cfg.num_classes, cfg.dropout, dtype, cfg.padding)
            setattr(self, backbone_name(i), classifier)
        self.policy = PolicyNetwork(cfg.policy, cfg.space, cfg.num_classes, dtype, cfg.padding)

    def classify_frames(self, frames: Array, mode: Mode) -> list[Array]:
        """Each backbone's prediction on every frame, at its own resolution.

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: training behaviour and keys.

        Returns:
            One float32 [B, T, C] per entry of `config.backbones`.
        """
        batch, length = frames.shape[:2]
        flat = flatten_frames(frames)
        keys = per_frame_keys(mode.keys, length) if mode.train else None
        predictions = []
        for i in range(len(self.config.backbones)):
            size = self.config.resolutions[i]
            classifier = getattr(self, backbone_name(i))
            x = prepare_frames(flat, size, self.config.resize)
            logits = classifier(x, train=mode.train, keys=keys)
            predictions.append(logits.reshape(batch, length, -1))
        return predictions

    def policy_features(self, frames: Array, mode: Mode) -> Array:
        """The policy's features of every frame: uint8 [B, T, S, S, 3] -> float32 [B, T, D]."""
        batch, length = frames.shape[:2]
        keys = per_frame_keys(mode.keys, length) if mode.train_policy else None
        size = self.config.policy.resolution
        x = prepare_frames(flatten_frames(frames), size, self.config.resize)
        features = self.policy.features(x, train=mode.train_policy, keys=keys)
        return features.reshape(batch, length, -1)

    def predict_under(
        self, frames: Array, mode: Mode, features: Array, decisions: Decisions, frame_mask: Array
    ) -> Prediction:
        """The video's prediction, given what to do with each frame (eq. 4 and the average).

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: training behaviour and keys.
            features: float32 [B, T, D], from `policy_features`.
            decisions: from the policy or imposed.
            frame_mask: bool [B, T], False on padding.
        """
        frame_logits = self.frame_logits(frames, mode, features, decisions)
        one_hot = decisions.one_hot * frame_mask[..., None]
        chosen = one_hot[..., : len(self.config.resolutions)]
        logits = masked_average(frame_logits, chosen)
        return Prediction(logits, one_hot, frame_logits, decisions.logits)

    def frame_logits(
        self, frames: Array, mode: Mode, features: Array, decisions: Decisions
    ) -> Array:
        """Every resolution's prediction on every frame: float32 [B, T, L, C]."""
        predictions = self.classify_frames(frames, mode)
        if self.config.policy.is_action:
            predictions.append(self.policy.lowest_logits(features, decisions))
        return jnp.stack(predictions, axis=2)

    def classify_separately(
        self, frames: Array, mode: Mode = EVALUATION, *, with_policy: bool = True
    ) -> dict[str, Array]:
        """Each network by itself, as a classifier that averages over all frames.

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: training behaviour and keys.
            with_policy: include the policy's extractor, classified as in the warm-up.

        Returns:
            logits float32 [B, C] by name: `backbone_0`, ..., and `policy`.
        """
        predictions = {
            backbone_name(i): jnp.mean(logits, axis=1)
            for i, logits in enumerate(self.classify_frames(frames, mode))
        }
        if with_policy:
            features = self.policy_features(frames, mode)
            predictions[POLICY] = jnp.mean(self.policy.warmup_logits(features), axis=1)
        return predictions
