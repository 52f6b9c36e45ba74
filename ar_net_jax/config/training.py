"""The parts of the configuration that say what is minimised, how, and in which stages."""

from dataclasses import dataclass
from typing import Literal

from ar_net_jax.config.schema import require


@dataclass(frozen=True)
class LossConfig:
    """Weights of equation 12.

    Attributes:
        classification: `cross_entropy` on the smallest label, or `binary_cross_entropy` on all.
        accuracy_weight: of eq. 9; 1 - alpha in the paper.
        efficiency_weight: of eq. 10, per GFLOP in the model's convention; alpha in the paper.
        uniform_weight: of eq. 11; beta in the paper.
        uniform_norm: `squared` (eq. 11) or `euclidean` (released code: norm not squared).
    """

    classification: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    accuracy_weight: float = 0.9
    efficiency_weight: float = 0.1
    uniform_weight: float = 0.3
    uniform_norm: Literal["squared", "euclidean"] = "squared"

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        for name in ("accuracy_weight", "efficiency_weight", "uniform_weight"):
            require(getattr(self, name) >= 0, f"{path}.{name}", "must not be negative")


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with the released parameter groups.

    Attributes:
        momentum: heavy-ball momentum.
        weight_decay: added to the gradient of the groups that decay.
        clip_norm: bound on the gradient's global norm (per backbone in separate training).
        head_multiplier: learning-rate factor of every classifier and of the decision head.
        bias_multiplier: further factor of biases other than BatchNorm's; they do not decay.
        micro_batches: equal parts of a batch that go through the model one after the other, their
            gradients summed, to need less memory. BatchNorm then uses the statistics of each part
            and moves its running ones once for each.
        shard_state: keep each part of the momentum on one device only, instead of all of it on
            every device.
    """

    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float = 20.0
    head_multiplier: float = 5.0
    bias_multiplier: float = 2.0
    micro_batches: int = 1
    shard_state: bool = False

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        require(0 <= self.momentum < 1, f"{path}.momentum", "must lie in [0, 1)")
        require(self.weight_decay >= 0, f"{path}.weight_decay", "must not be negative")
        require(self.clip_norm > 0, f"{path}.clip_norm", "must be positive")
        require(self.micro_batches >= 1, f"{path}.micro_batches", "must be at least 1")


@dataclass(frozen=True)
class StageConfig:
    """One stage of training.

    Attributes:
        objective: `separate` trains each backbone as a frame-averaging classifier by itself (all
            in one pass); `joint` trains the approach as a whole.
        epochs: passes over the training videos.
        learning_rate: at the start.
        schedule: `step`, `cosine` or `constant`.
        decay_epochs: for `step`: the epochs at which the rate is multiplied by `decay_factor`.
        decay_factor: see `decay_epochs`.
        warmup_epochs: linear rise from zero.
        tau_start: Gumbel-Softmax temperature in the first epoch; 0 takes over the temperature of
            the epoch that the stage before handed on.
        tau_decay: tau(epoch) = tau_start * exp(tau_decay * epoch).
        freeze_policy: `none`; `parameters` (released fine-tuning: BatchNorm statistics move and
            dropout stays on); `all` (parameters, statistics and dropout).
        train_policy_features: in a `separate` stage, train the policy's extractor too.
        decisions: in a `joint` stage, `sample` by Gumbel-Softmax or take the `argmax`.
        separate_weight: in a masked `joint` stage, weight of the networks' own losses beside eq.
            12: the sum that a `separate` stage minimises, each network classifying by all frames.
            So a network goes on learning that the policy gives few frames to. 0 in the paper.
        routing: with a frozen policy, train each backbone on all frames (`masked`, as released),
            or on those alone that the policy chose it for (`routed`, much less work; see
            `models.routed_training` for what that does to BatchNorm).
        routed_chunk: for `routed`: the most frames of a device that a backbone takes at a time.
        select: hand on the `best` epoch by validation mAP, or the `last`.
    """

    objective: Literal["separate", "joint"] = "joint"
    epochs: int = 50
    learning_rate: float = 0.001
    schedule: Literal["step", "cosine", "constant"] = "step"
    decay_epochs: tuple[int, ...] = ()
    decay_factor: float = 0.1
    warmup_epochs: float = 0.0
    tau_start: float = 5.0
    tau_decay: float = -0.045
    freeze_policy: Literal["none", "parameters", "all"] = "none"
    train_policy_features: bool = False
    decisions: Literal["sample", "argmax"] = "sample"
    separate_weight: float = 0.0
    routing: Literal["masked", "routed"] = "masked"
    routed_chunk: int = 16
    select: Literal["best", "last"] = "best"

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        require(self.epochs >= 1, f"{path}.epochs", "must be at least 1")
        require(self.learning_rate > 0, f"{path}.learning_rate", "must be positive")
        require(self.tau_start >= 0, f"{path}.tau_start", "must not be negative")
        require(self.warmup_epochs >= 0, f"{path}.warmup_epochs", "must not be negative")
        require(
            self.decisions == "sample" or self.freeze_policy != "none",
            f"{path}.decisions",
            "argmax gives the policy no gradient; freeze it, or sample",
        )
        require(
            self.routing == "masked"
            or (self.objective == "joint" and self.freeze_policy != "none"),
            f"{path}.routing",
            "'routed' computes only what the policy chose, which teaches it nothing; freeze it in "
            "a joint stage",
        )
        require(self.separate_weight >= 0, f"{path}.separate_weight", "must not be negative")
        require(
            self.separate_weight == 0 or (self.objective, self.routing) == ("joint", "masked"),
            f"{path}.separate_weight",
            "needs every network's prediction on every frame beside the joint one; set it to 0, or "
            "take a joint stage with masked routing",
        )
        require(self.routed_chunk >= 1, f"{path}.routed_chunk", "must be at least 1 frame")
