"""AR-Net (Section 3): a policy decides, per frame, which resolution or skip.

Meng et al. 2020. Trained in three stages (Section 4.1): each backbone by itself, everything jointly
under sampled decisions, and the backbones under the policy as it then is.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ar_net_jax.config.schema import require
from ar_net_jax.losses import Accuracy, Efficiency, Loss, Separate, Uniform
from ar_net_jax.methods.base import FROZEN, Batch, Tree
from ar_net_jax.methods.multi_backbone import (
    MultiBackboneMethod,
    MultiBackboneStage,
    ReleasedMultiBackbone,
)
from ar_net_jax.methods.released import require_expressible
from ar_net_jax.methods.stages import Moment, Objective, StageConfig
from ar_net_jax.methods.traits import Traits
from ar_net_jax.modules.frame_runner import EVALUATION, Mode
from ar_net_jax.modules.multi_backbone import (
    POLICY,
    MultiBackbone,
    MultiBackboneConfig,
    backbone_name,
)
from ar_net_jax.modules.policy import PolicyState, PolicySteps
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.modules.routed_training import predict_routed
from ar_net_jax.ops.decide import Argmax, Decide, Forced, GumbelSample
from ar_net_jax.ops.gumbel import MAX_TEMPERATURE, MIN_TEMPERATURE, temperature
from ar_net_jax.ops.resize import prepare_frames

Array = jax.Array


@dataclass(frozen=True)
class ARNetConfig(MultiBackboneConfig):
    """A model of AR-Net; fields as in `MultiBackboneConfig`."""


@dataclass(frozen=True)
class ARNetStage(MultiBackboneStage):
    """A stage of AR-Net.

    Attributes:
        tau_start: Gumbel-Softmax temperature in the first epoch; 0 takes over the temperature of
            the epoch that the stage before handed on.
        tau_decay: tau(epoch) = tau_start * exp(tau_decay * epoch).
        freeze_policy: `none`; `parameters` (released fine-tuning: BatchNorm statistics move and
            dropout stays on); `all` (parameters, statistics and dropout).
        decisions: in a `joint` stage, `sample` by Gumbel-Softmax or take the `argmax`.
        routing: with a frozen policy, train each backbone on all frames (`masked`, as released),
            or on those alone that the policy chose it for (`routed`, much less work; see
            `modules.routed_training` for what that does to BatchNorm).
        routed_chunk: for `routed`: the most frames of a device that a backbone takes at a time.
    """

    tau_start: float = 5.0
    tau_decay: float = -0.045
    freeze_policy: Literal["none", "parameters", "all"] = "none"
    decisions: Literal["sample", "argmax"] = "sample"
    routing: Literal["masked", "routed"] = "masked"
    routed_chunk: int = 16

    @property
    def samples(self) -> bool:
        """Whether the stage decides by Gumbel-Softmax samples."""
        return self.objective == "joint" and self.decisions == "sample"

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(
            0 <= self.tau_start < math.inf,
            f"{path}.tau_start",
            "must be a number and not negative",
        )
        require(math.isfinite(self.tau_decay), f"{path}.tau_decay", "must be a number")
        require(
            self.decisions == "sample" or self.freeze_policy != "none",
            f"{path}.decisions",
            "argmax gives the policy no gradient; freeze it, or sample",
        )
        routed = self.routing == "routed"
        require(
            not routed or (self.objective == "joint" and self.freeze_policy != "none"),
            f"{path}.routing",
            "'routed' computes only what the policy chose, which teaches it nothing; freeze it in "
            "a joint stage",
        )
        require(
            not routed or Separate.name not in self.losses,
            f"{path}.losses.{Separate.name}",
            "needs every network's prediction on every frame beside the joint one; leave it out, "
            "or take masked routing",
        )
        require(self.routed_chunk >= 1, f"{path}.routed_chunk", "must be at least 1 frame")

    def following(self, handed_on: Mapping[str, float]) -> Self:
        """See `StageConfig`: takes over the temperature where it has none of its own."""
        return dataclasses.replace(self, tau_start=self.tau_start or handed_on.get("tau", 1.0))

    def require_temperature(self, path: str, start: tuple[float, float]) -> tuple[float, float]:
        """Checks that samples can be drawn in every epoch.

        Args:
            path: of the stage, for the error.
            start: the lowest and the highest temperature that the stage may begin at.

        Returns:
            The lowest and the highest temperature of any of its epochs.

        Raises:
            UserError: a temperature is too near zero, or too high, for float32.
        """
        change = self.tau_decay * (self.epochs - 1)
        # Kept within what a double holds.
        factor = math.exp(max(-600.0, min(change, 600.0)))
        lowest, highest = start[0] * min(factor, 1.0), start[1] * max(factor, 1.0)
        if self.samples:
            require(
                MIN_TEMPERATURE <= lowest and highest <= MAX_TEMPERATURE,
                f"{path}.{'tau_decay' if change else 'tau_start'}",
                f"the temperature gets to {highest if change > 0 else lowest:.2g} within "
                f"{self.epochs} epochs, and samples need {MIN_TEMPERATURE:g} to "
                f"{MAX_TEMPERATURE:g}; let it change more slowly, or train for fewer epochs",
            )
        return lowest, min(highest, MAX_TEMPERATURE)

    def hand_on(self, epoch: int) -> dict[str, float]:
        """See `StageConfig`: the temperature of the epoch."""
        return {"tau": float(temperature(epoch, self.tau_start, self.tau_decay))}


class ARNetModule(MultiBackbone):
    """The backbones under the policy's decisions."""

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos.

        Args:
            frames: uint8 [B, T, S, S, 3], S the highest resolution.
            mode: training behaviour, keys, and how to decide.
            frame_mask: bool [B, T], False on padding at the end of a video.
        """
        features, steps = self.decide(frames, mode, frame_mask=frame_mask)
        return self.predict_under(frames, mode, features, steps, frame_mask)

    def decide(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> tuple[tuple[Array, Array], PolicySteps]:
        """The policy's part of a call: its features as from `policy_features`, and its decisions.

        Args as in a call.
        """
        features = self.policy_features(frames, mode, frame_mask)
        return features, self.policy.decide(features[0], mode.decide, keys=mode.keys)

    def look_at(
        self, frame: Array, state: PolicyState, offset: Array | None = None
    ) -> tuple[PolicyState, PolicySteps, Array | None]:
        """The policy's part of one frame, for videos that arrive frame by frame.

        Args:
            frame: uint8 [B, S, S, 3].
            state: from `first_state` or from the frame before.
            offset: float32 [A], on the decision head's logits.

        Returns:
            The next state, the decisions on this frame, and the lowest resolution's row
            float32 [B, D], or None where the policy's own prediction is no action.
        """
        features, _ = self.policy_features(frame[:, None], EVALUATION)
        features = features[:, 0]
        state, steps = self.policy.decide_frame(state, features, Argmax(offset))
        lowest = None
        if self.config.policy.is_action:
            lowest = steps.weighted(self.policy.lowest_rows(features, steps))
        return state, steps, lowest

    def classify_frame(self, frame: Array, index: int) -> Array:
        """One backbone's row float32 [B, D] of one frame of each video, uint8 [B, S, S, 3]."""
        network = getattr(self, backbone_name(index))
        size, resize = self.config.resolutions[index], self.config.resize
        return network(prepare_frames(frame, size, resize, network.normalisation))

    def first_state(self, batch: int) -> PolicyState:
        """The policy's state before the first frame of `batch` videos."""
        return self.policy.initial_state(batch)


class ReleasedARNet(ReleasedMultiBackbone):
    """Released files of AR-Net."""

    def check_expressible(self, config: MultiBackboneConfig) -> None:
        """See `ReleasedForm`; a skip of one frame covers no other, so the cell does not matter."""
        super().check_expressible(config)
        cell = config.policy.cell_state
        require_expressible(
            cell == "advancing" or max(config.skips, default=0) <= 1,
            "policy.cell_state",
            cell,
            "its cell is 'advancing'",
        )


class ARNet(MultiBackboneMethod[ARNetConfig, ARNetStage]):
    """Adaptive frame resolution."""

    name = "ar_net"
    title = "AR-Net"
    Config = ARNetConfig
    Stage = ARNetStage
    traits = Traits(adaptive=True, steerable=True, streams=True)
    released = ReleasedARNet()
    provides = frozenset({"decisions", "network_logits"})

    def module(self) -> ARNetModule:
        """See `Method`."""
        return ARNetModule(self.config)

    @classmethod
    def usual_losses(cls, objective: Objective) -> dict[str, Loss]:
        """See `Method`; equation 12 with alpha = .1 and beta = .3."""
        if objective == "separate":
            return super().usual_losses(objective)
        return {"accuracy": Accuracy(0.9), "efficiency": Efficiency(0.1), "uniform": Uniform(0.3)}

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: warm-up, joint training and fine-tuning of Section 4.1."""
        joint = cls.usual_losses("joint")
        late: dict[str, Any] = {"epochs": 50, "decay_epochs": (50, 100), "losses": joint}
        return {
            "warmup": ARNetStage(
                objective="separate",
                losses=cls.usual_losses("separate"),
                epochs=10,
                learning_rate=0.02,
                decay_epochs=(20, 40),
            ),
            "joint": ARNetStage(learning_rate=0.001, **late),
            # 0: the temperature of the joint stage's best epoch.
            "finetune": ARNetStage(
                learning_rate=0.0005, tau_start=0.0, freeze_policy="all", **late
            ),
        }

    def validate_stages(self, order: tuple[str, ...], stages: Mapping[str, ARNetStage]) -> None:
        """See `Method`; temperatures are taken over from joint stages alone, and stay in range."""
        super().validate_stages(order, stages)
        handed_on = (1.0, 1.0)
        for before, name in zip(("", *order), order):
            stage = stages[name]
            follows_joint = bool(before) and stages[before].objective == "joint"
            require(
                follows_joint or not (stage.samples and stage.tau_start == 0),
                f"stages.{name}.tau_start",
                "0 takes over the temperature of the stage before, but no joint stage comes right "
                "before; give a temperature above 0",
            )
            start = (stage.tau_start, stage.tau_start) if stage.tau_start else handed_on
            handed_on = stage.require_temperature(f"stages.{name}", start)

    def part_of(self, stage: ARNetStage, path: tuple[str, ...]) -> str:
        """See `Method`; a stage may freeze the policy."""
        frozen = stage.objective == "joint" and stage.freeze_policy != "none"
        return FROZEN if frozen and path[0] == POLICY else super().part_of(stage, path)

    def training_mode(self, stage: ARNetStage, keys: Array, moment: Moment) -> Mode:
        """See `Method`: decisions are sampled, at the epoch's temperature, or argmax."""
        if stage.objective == "separate":
            return Mode(train=True, keys=keys)
        decide: Decide[Any] = GumbelSample(self._tau(stage, moment)) if stage.samples else Argmax()
        frozen = (POLICY,) if stage.freeze_policy == "all" else ()
        return Mode(train=True, frozen=frozen, keys=keys, decide=decide)

    def training_scalars(self, stage: ARNetStage, moment: Moment) -> dict[str, Array]:
        """See `Method`: the temperature `tau`."""
        return {"tau": self._tau(stage, moment)} if stage.objective == "joint" else {}

    def predict_in_training(
        self,
        stage: ARNetStage,
        variables: Tree,
        batch: Batch,
        mode: Mode,
        mesh: Mesh | None,
    ) -> tuple[Prediction, Tree]:
        """See `Method`; a batch may hold `forced_actions` int32 [B, T], to measure a usage."""
        mode = _forced(batch, mode)
        if stage.routing == "masked":
            return super().predict_in_training(stage, variables, batch, mode, mesh)
        return predict_routed(
            self.module(), variables, batch["frames"], mode, stage.routed_chunk, mesh
        )

    def usage_in_training(
        self, stage: ARNetStage, variables: Tree, batch: Batch, mode: Mode
    ) -> Array:
        """See `Method`: the policy's forward pass alone.

        Its dropout and noise are those of the whole step, because they belong to the examples.
        """
        (_, steps), _ = self.module().apply(
            variables,
            batch["frames"],
            _forced(batch, mode),
            method="decide",
            mutable=["batch_stats"],
        )
        return jnp.mean(steps.one_hot, axis=(0, 1))

    def training_forms(self, stage: ARNetStage) -> dict[str, ARNetStage]:
        """See `Method`; under a frozen policy both forms are there."""
        frozen = stage.objective == "joint" and stage.freeze_policy != "none"
        if not frozen or Separate.name in stage.losses:
            return super().training_forms(stage)
        return {
            "masked": dataclasses.replace(stage, routing="masked"),
            "routed": dataclasses.replace(stage, routing="routed"),
        }

    def stream(self, variables: Tree, *, cost_penalty: float = 0.0) -> Any:
        """See `Method`."""
        from ar_net_jax.methods.ar_net_stream import ARNetStream

        return ARNetStream(self, variables, cost_penalty=cost_penalty)

    def _tau(self, stage: ARNetStage, moment: Moment) -> Array:
        return temperature(moment.epoch, stage.tau_start, stage.tau_decay)


def _forced(batch: Batch, mode: Mode) -> Mode:
    actions = batch.get("forced_actions")
    return mode if actions is None else dataclasses.replace(mode, decide=Forced(actions))
