"""A stage of training as data: what every method's stages have in common, and a moment of one."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self, TypeVar

import flax.struct
import jax

from ar_net_jax.config.schema import require
from ar_net_jax.losses import Accuracy, Loss, Separate

Objective = Literal["separate", "joint"]


@dataclass(frozen=True)
class StageConfig:
    """One stage of training; a method whose stages say more derives from this.

    Attributes:
        objective: `separate` trains each network as a frame-averaging classifier by itself (all
            in one pass); `joint` trains the model as a whole.
        losses: what is minimised: the terms of the sum by name, see `ar_net_jax.losses`.
        epochs: passes over the training videos.
        learning_rate: at the start.
        schedule: `step`, `cosine` or `constant`.
        decay_epochs: for `step`: the epochs at which the rate is multiplied by `decay_factor`.
        decay_factor: see `decay_epochs`.
        warmup_epochs: linear rise from zero.
        select: hand on the `best` epoch by validation mAP, or the `last`.
    """

    objective: Objective = "joint"
    losses: Mapping[str, Loss] = field(default_factory=dict)
    epochs: int = 50
    learning_rate: float = 0.001
    schedule: Literal["step", "cosine", "constant"] = "step"
    decay_epochs: tuple[int, ...] = ()
    decay_factor: float = 0.1
    warmup_epochs: float = 0.0
    select: Literal["best", "last"] = "best"

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        require(self.epochs >= 1, f"{path}.epochs", "must be at least 1")
        require(self.learning_rate > 0, f"{path}.learning_rate", "must be positive")
        require(self.warmup_epochs >= 0, f"{path}.warmup_epochs", "must not be negative")
        for name, loss in self.losses.items():
            loss.validate(f"{path}.losses.{name}")
        require(
            self.objective == "joint" or set(self.losses) == {"separate"},
            f"{path}.losses",
            f"a separate stage has the one loss 'separate', got {', '.join(self.losses) or 'none'}",
        )
        require(
            any(loss.weight > 0 for loss in self.losses.values()),
            f"{path}.losses",
            "no loss has a weight above 0, so there is nothing to minimise",
        )

    def following(self, handed_on: Mapping[str, float]) -> Self:
        """The stage, completed by what the stage before handed on."""
        return self

    def hand_on(self, epoch: int) -> dict[str, float]:
        """What the stage after may take over, given the epoch that was selected (from 0)."""
        return {}


Stage = TypeVar("Stage", bound=StageConfig)


def baseline_losses() -> dict[str, Loss]:
    """What a baseline minimises: there is nothing to weigh against accuracy."""
    return {"accuracy": Accuracy()}


def baseline_stages(cls: type[Stage]) -> dict[str, Stage]:
    """The stages of a baseline, as long as AR-Net's (Section 4.1): warm-up, joint, fine-tuning."""
    late = cls(epochs=50, decay_epochs=(50, 100), losses=baseline_losses())
    return {
        "warmup": cls(
            objective="separate",
            losses={"separate": Separate()},
            epochs=10,
            learning_rate=0.02,
            decay_epochs=(20, 40),
        ),
        "joint": dataclasses.replace(late, learning_rate=0.001),
        "finetune": dataclasses.replace(late, learning_rate=0.0005),
    }


@flax.struct.dataclass
class Moment:
    """Where in a stage a training step stands.

    Attributes:
        step: int32 scalar, from 0.
        epoch: float32 scalar, whole passes over the data, from 0.
    """

    step: jax.Array
    epoch: jax.Array
