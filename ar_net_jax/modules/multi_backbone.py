"""The set of networks that AR-Net, Random policy and Multi-Scale share.

One classifier per resolution, the lowest of them inside the policy network where the policy's own
prediction is an action. The three approaches differ only in how they weight the predictions.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax.config.config import ModelConfig
from ar_net_jax.modules.frame_runner import (
    EVALUATION,
    Mode,
    flatten_frames,
    mask_or_ones,
    run_on_frames,
)
from ar_net_jax.modules.heads import frame_classifier
from ar_net_jax.modules.policy import Decisions, PolicyNetwork
from ar_net_jax.ops.resize import prepare_frames
from ar_net_jax.ops.rng import per_frame_keys
from ar_net_jax.ops.routing import masked_average

Array = jax.Array

POLICY = "policy"


@flax.struct.dataclass
class Prediction:
    """What a model makes of B videos.

    Attributes:
        logits: float32 [B, C].
        one_hot: float32 [B, T, A], the action of every frame; zero on padding.
        frame_logits: float32 [B, T, L, C], every resolution's prediction on every frame; in the
            routed form zero where it was not asked for.
        policy_logits: float32 [B, T, A], or None without a policy network.
        computed: int32 [K] or [K + 1], frames that each of `config.backbones` and then the
            policy's extractor, where there is one, computed; the filling of last chunks included.
    """

    logits: Array
    one_hot: Array
    frame_logits: Array
    policy_logits: Array | None
    computed: Array

    @property
    def actions(self) -> Array:
        """int32 [B, T], the index of the action of every frame."""
        return jnp.argmax(self.one_hot, axis=-1).astype(jnp.int32)


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
        for i in range(len(cfg.backbones)):
            setattr(self, backbone_name(i), frame_classifier(cfg, i))
        self.policy = PolicyNetwork(
            cfg.policy, cfg.space, cfg.num_classes, cfg.padding, cfg.norm, cfg.remat
        )

    def classify_frames(
        self, frames: Array, mode: Mode, selected: Array
    ) -> tuple[list[Array], Array]:
        """Each backbone's prediction on every frame, at its own resolution.

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: training behaviour and keys, and the form of routing.
            selected: bool [B, T, K], the frames of each backbone that the routed form computes.

        Returns:
            One float32 [B, T, C] per entry of `config.backbones`, and how many frames each of
            them computed, int32 [K].
        """
        results = [
            run_on_frames(
                getattr(self, backbone_name(i)),
                frames,
                selected[..., i],
                mode,
                index=i,
                size=self.config.resolutions[i],
                resize=self.config.resize,
            )
            for i in range(len(self.config.backbones))
        ]
        computed = [count for _, count in results]
        return [logits for logits, _ in results], jnp.array(computed, jnp.int32)

    def policy_features(
        self, frames: Array, mode: Mode, frame_mask: Array | None = None
    ) -> tuple[Array, Array]:
        """The policy's features of every frame, in one call.

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: training behaviour and keys, and the form of routing.
            frame_mask: bool [B, T]; where given, the routed form leaves padding out.

        Returns:
            float32 [B, T, D], and how many frames were computed, int32 scalar.
        """
        size, resize = self.config.policy.resolution, self.config.resize
        if mode.chunks is not None and frame_mask is not None:
            return run_on_frames(
                self.policy,
                frames,
                frame_mask,
                mode,
                index=len(self.config.backbones),
                size=size,
                resize=resize,
                method="features",
            )
        batch, length = frames.shape[:2]
        keys = per_frame_keys(mode.keys, length) if mode.train_policy else None
        x = prepare_frames(flatten_frames(frames), size, resize)
        features = self.policy.features(x, train=mode.train_policy, keys=keys)
        return features.reshape(batch, length, -1), jnp.asarray(batch * length, jnp.int32)

    def predict_under(
        self,
        frames: Array,
        mode: Mode,
        features: tuple[Array, Array],
        decisions: Decisions,
        frame_mask: Array | None,
    ) -> Prediction:
        """The video's prediction, given what to do with each frame (eq. 4 and the average).

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: training behaviour and keys.
            features: from `policy_features`.
            decisions: from the policy or imposed.
            frame_mask: bool [B, T], False on padding; None where there is none.
        """
        one_hot = decisions.one_hot * mask_or_ones(frame_mask, frames)[..., None]
        chosen = one_hot[..., : len(self.config.resolutions)]
        frame_logits, computed = self.frame_logits(frames, mode, features, decisions, chosen > 0.5)
        logits = masked_average(frame_logits, chosen)
        return Prediction(logits, one_hot, frame_logits, decisions.logits, computed)

    def frame_logits(
        self,
        frames: Array,
        mode: Mode,
        features: tuple[Array, Array],
        decisions: Decisions,
        selected: Array,
    ) -> tuple[Array, Array]:
        """Every resolution's prediction on every frame.

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: training behaviour and keys, and the form of routing.
            features: from `policy_features`.
            decisions: from the policy or imposed.
            selected: bool [B, T, L], what the routed form has to compute.

        Returns:
            float32 [B, T, L, C], and how many frames each backbone and then the policy computed,
            int32 [K + 1].
        """
        predictions, computed = self.classify_frames(frames, mode, selected)
        if self.config.policy.is_action:
            predictions.append(self.policy.lowest_logits(features[0], decisions))
        return jnp.stack(predictions, axis=2), jnp.append(computed, features[1])

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
        everything = jnp.ones((*frames.shape[:2], len(self.config.backbones)), bool)
        frame_logits, _ = self.classify_frames(frames, mode, everything)
        predictions = {
            backbone_name(i): jnp.mean(logits, axis=1) for i, logits in enumerate(frame_logits)
        }
        if with_policy:
            features, _ = self.policy_features(frames, mode)
            predictions[POLICY] = jnp.mean(self.policy.warmup_logits(features), axis=1)
        return predictions
