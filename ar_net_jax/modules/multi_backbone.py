"""The set of networks that AR-Net, Random policy and Multi-Scale share.

One classifier per resolution, the lowest of them inside the policy network where the policy's own
prediction is an action. The three methods differ only in how they weight the predictions.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.config.schema import require
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones, run_on_frames
from ar_net_jax.modules.heads import (
    check_backbone,
    classify_maximum,
    frame_classifier,
    video_logits,
)
from ar_net_jax.modules.policy import PolicyConfig, PolicyNetwork, PolicySteps
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.ops.actions import ActionSpace, Choices, policy_choices
from ar_net_jax.ops.pooling import maximum_over_frames

Array = jax.Array

POLICY = "policy"
LSTM = "LSTM"


@dataclass(frozen=True)
class MultiBackboneConfig(ModelConfig):
    """A classifier per resolution, and a policy network.

    Attributes:
        resolutions: sides in pixels, descending.
        backbones: one name per resolution, without the lowest one when the policy serves it.
        skips: skip lengths, ascending; may be empty.
        policy: the policy network.
    """

    resolutions: tuple[int, ...] = (224, 168, 112, 84)
    backbones: tuple[str, ...] = ("resnet50", "resnet34", "resnet18")
    skips: tuple[int, ...] = (1, 2, 4)
    policy: PolicyConfig = field(default_factory=PolicyConfig)

    @property
    def space(self) -> ActionSpace:
        """The action space."""
        return ActionSpace(self.resolutions, self.skips)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the networks that `backbones` are, such as `224px`."""
        return self.space.names[: len(self.backbones)]

    @property
    def choices(self) -> Choices:
        """The actions, and the networks that each of them calls."""
        return policy_choices(self.space, len(self.backbones), POLICY, LSTM)

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        self._validate_actions(path)
        for i, name in enumerate(self.backbones):
            check_backbone(name, f"{path}.backbones[{i}]")
        served = self.policy.is_action
        expected = len(self.resolutions) - int(served)
        require(
            len(self.backbones) == expected,
            f"{path}.backbones",
            f"{len(self.backbones)} given, but {len(self.resolutions)} resolutions need {expected}"
            + (" (the policy network serves the lowest)" if served else ""),
        )
        self.policy.validate(f"{path}.policy")
        require(
            not served or self.policy.resolution == self.resolutions[-1],
            f"{path}.policy.resolution",
            f"is {self.policy.resolution}, but with is_action=True it must equal the lowest of "
            f"model.resolutions, {self.resolutions[-1]}",
        )

    def _validate_actions(self, path: str) -> None:
        resolutions, skips = self.resolutions, self.skips
        require(len(resolutions) >= 1, f"{path}.resolutions", "needs at least one resolution")
        require(min(resolutions) >= 1, f"{path}.resolutions", "must be at least 1 pixel each")
        require(
            all(a > b for a, b in zip(resolutions, resolutions[1:])),
            f"{path}.resolutions",
            f"must be strictly descending, got {resolutions}",
        )
        require(
            all(f >= 1 for f in skips),
            f"{path}.skips",
            f"must be at least 1 frame each, got {skips}; leave the tuple empty for no skipping",
        )
        require(
            all(a < b for a, b in zip(skips, skips[1:])),
            f"{path}.skips",
            f"must be strictly ascending, got {skips}",
        )


def backbone_name(index: int) -> str:
    """Name of the classifier of the index-th resolution in the parameter tree."""
    return f"backbone_{index}"


class MultiBackbone(nn.Module):
    """The classifiers and the policy network; subclasses define `__call__`.

    Attributes:
        config: the model's config.
    """

    config: MultiBackboneConfig

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        for i, backbone in enumerate(cfg.backbones):
            setattr(self, backbone_name(i), frame_classifier(cfg, backbone))
        self.policy = PolicyNetwork(
            cfg.policy, cfg.space, cfg.num_classes, cfg.padding, cfg.norm, cfg.remat, cfg.head
        )

    def classify_frames(
        self, frames: Array, mode: Mode, selected: Array
    ) -> tuple[list[Array], dict[str, Array]]:
        """Each backbone's row of every frame, at its own resolution; see `modules.heads`.

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: training behaviour and keys, and the form of execution.
            selected: bool [B, T, K], the frames of each backbone that the routed form computes.

        Returns:
            One float32 [B, T, D] per entry of `config.backbones`, and how many frames each of
            them computed, int32 by name.
        """
        rows, executed = [], {}
        for i, name in enumerate(self.config.names):
            found, executed[name] = run_on_frames(
                getattr(self, backbone_name(i)),
                frames,
                selected[..., i],
                mode,
                name=name,
                size=self.config.resolutions[i],
                resize=self.config.resize,
            )
            rows.append(found)
        return rows, executed

    def policy_features(
        self, frames: Array, mode: Mode, frame_mask: Array | None = None
    ) -> tuple[Array, Array]:
        """The policy's features of every frame, in one call.

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: training behaviour and keys, and the form of execution.
            frame_mask: bool [B, T]; where given, the routed form leaves padding out.

        Returns:
            float32 [B, T, D], and how many frames were computed, int32 scalar.
        """
        return run_on_frames(
            self.policy,
            frames,
            mask_or_ones(frame_mask, frames),
            # Without padding it sees all frames, and a loop would only cost.
            mode if frame_mask is not None else dataclasses.replace(mode, chunks=None),
            name=POLICY,
            size=self.config.policy.resolution,
            resize=self.config.resize,
            method="features",
        )

    def frame_rows(
        self, frames: Array, mode: Mode, features: Array, steps: PolicySteps, selected: Array
    ) -> tuple[list[Array], dict[str, Array]]:
        """Every resolution's row of every frame.

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: training behaviour and keys, and the form of execution.
            features: float32 [B, T, D], from `policy_features`.
            steps: of the policy.
            selected: bool [B, T, L], what the routed form has to compute.

        Returns:
            L of float32 [B, T, D], and how many frames each backbone computed, int32 by name.
        """
        rows, executed = self.classify_frames(frames, mode, selected)
        if self.config.policy.is_action:
            train = mode.trains(POLICY)
            rows.append(self.policy.lowest_rows(features, steps, train=train))
        return rows, executed

    def video_logits(self, rows: list[Array], weights: Array) -> Array:
        """The video's prediction float32 [B, C] from L of [B, T, D], weighted by [B, T, L]."""
        return video_logits(self.config.head, rows, weights, self._classifiers())

    def merge(self, summary: Array, row: Array) -> Array:
        """What is known of a video, float32 [B, D], after one frame more: a sum or a maximum."""
        return summary + row if self.config.head == "mean" else jnp.maximum(summary, row)

    def summary_logits(self, summary: Array, frames: Array) -> Array:
        """A video's prediction float32 [B, C] from what is known of it.

        Args:
            summary: float32 [B, D], from `merge`, zeros at first.
            frames: float32 [B, L], how many frames each resolution was given.
        """
        if self.config.head == "mean":
            return summary / jnp.maximum(jnp.sum(frames, axis=1, keepdims=True), 1.0)
        return classify_maximum(summary, frames, self._classifiers())

    def _classifiers(self) -> list[Callable[[Array], Array]]:
        """Each resolution's classifier of embeddings."""
        names = [backbone_name(i) for i in range(len(self.config.backbones))]
        found = [getattr(self, name).classify for name in names]
        return found + ([self.policy.lowest_head] if self.config.policy.is_action else [])

    def predict_under(
        self,
        frames: Array,
        mode: Mode,
        features: tuple[Array, Array],
        steps: PolicySteps,
        frame_mask: Array | None,
    ) -> Prediction:
        """The video's prediction, given what to do with each frame (eq. 4 and the average).

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: training behaviour and keys, and the form of execution.
            features: from `policy_features`, with the number of frames computed.
            steps: of the policy, or imposed.
            frame_mask: bool [B, T], False on padding; None where there is none.
        """
        one_hot = steps.one_hot * mask_or_ones(frame_mask, frames)[..., None]
        chosen = one_hot[..., : len(self.config.resolutions)]
        found, seen = features
        rows, executed = self.frame_rows(frames, mode, found, steps, chosen > 0.5)
        length = one_hot.shape[0] * one_hot.shape[1]
        return Prediction(
            logits=self.video_logits([steps.weighted(row) for row in rows], chosen),
            calls=self.config.choices.count(one_hot),
            executed={**executed, POLICY: seen, LSTM: jnp.asarray(length, jnp.int32)},
            decisions=Decisions(one_hot, steps.logits),
            network_logits=self.network_logits(rows, mode),
        )

    def network_logits(self, rows: list[Array], mode: Mode) -> dict[str, Array]:
        """Each network's own prediction from all frames, float32 [B, C] by name of its module.

        Args:
            rows: L of float32 [B, T, D].
            mode: in the routed form there is nothing to average.
        """
        if mode.chunks is not None:
            return {}
        names = [backbone_name(i) for i in range(len(self.config.backbones))]
        names += [POLICY] * self.config.policy.is_action
        if self.config.head == "mean":
            averages = jnp.mean(jnp.stack(rows, axis=2), axis=1)
            return dict(zip(names, jnp.moveaxis(averages, 1, 0), strict=True))
        by_network = zip(rows, self._classifiers(), strict=True)
        return dict(zip(names, [self._by_itself(*one) for one in by_network], strict=True))

    def _by_itself(self, rows: Array, classify: Callable[[Array], Array]) -> Array:
        """One network's prediction float32 [B, C] from its rows [B, T, D] of all frames."""
        if self.config.head == "mean":
            return jnp.mean(rows, axis=1)
        return classify(maximum_over_frames(rows))

    def classify_separately(
        self, frames: Array, mode: Mode = EVALUATION, *, names: tuple[str, ...]
    ) -> dict[str, Array]:
        """Each network by itself, as a classifier of all frames.

        Args:
            frames: uint8 [B, T, S, S, 3].
            mode: training behaviour and keys.
            names: the modules that are wanted; `policy` is its extractor, classified as in the
                warm-up, and the backbones are always there.

        Returns:
            logits float32 [B, C] by name.
        """
        everything = jnp.ones((*frames.shape[:2], len(self.config.backbones)), bool)
        rows, _ = self.classify_frames(frames, mode, everything)
        predictions = {
            backbone_name(i): self._by_itself(of, getattr(self, backbone_name(i)).classify)
            for i, of in enumerate(rows)
        }
        if POLICY in names:
            features, _ = self.policy_features(frames, mode)
            warm_up = self.policy.warmup_logits(features, train=mode.trains(POLICY))
            predictions[POLICY] = warm_up
        return predictions
