"""FrameExit: frames from coarse to fine, until a gate says that they are enough.

Ghodrati et al. 2021. Frames are looked at in the order of `ops.frame_order`. A running element-wise
maximum of their embeddings (the head `max_mlp`) is what every place in that order has a classifier
of its own for, and a gate: a small network on the maxima before and after the newest frame that
says whether to go on. After the first frame the plain rule decides, whether its classifier's
confidence has reached a threshold; after the last there is nothing to decide. The same rule at
every place, `exit="confidence"`, needs no training and is the control for the gates.

From the authors' released code for inference: order, network, classifiers, gates, the first rule.
Their training code is not public, so this is reconstructed, with the choices made here:
 - two stages, first the network with all classifiers by the mean of their cross-entropies, then the
   gates alone with the rest frozen, so that another `beta` needs the second stage only;
 - a gate's target is to stop where its classifier's loss on the video is at most beta * exp(t / 2),
   t the place from 0, stricter early; the form is recalled from the paper, beta is ours;
 - for numbers of frames other than ten the order is ours; places beyond `steps` share the last
   classifier and gate;
 - a video of fewer frames than others in its batch is looked at in the order of its own number.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network
from ar_net_jax.errors import UserError
from ar_net_jax.losses import Loss, LossContext, Target, classification_loss
from ar_net_jax.methods.base import FROZEN, MODEL, Method, Tree
from ar_net_jax.methods.frameexit_module import (
    BACKBONE,
    GATE,
    GATES,
    LOOKED_AT,
    FrameExitConfig,
    FrameExitModule,
)
from ar_net_jax.methods.stages import Moment, Objective, StageConfig
from ar_net_jax.methods.traits import Traits
from ar_net_jax.methods.uniform import network_name
from ar_net_jax.modules.exits import gate_macs
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.frame_order import back_in_time, coarse_to_fine

Array = jax.Array


@dataclass(frozen=True)
class EveryExit(Loss):
    """The mean over places of their classifiers' losses.

    Attributes:
        target: as in `Accuracy`.
    """

    name = "every_exit"
    needs = ("exit_logits",)

    target: Target = "cross_entropy"

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        of_one = functools.partial(classification_loss, labels=context.labels, target=self.target)
        return jnp.mean(jax.vmap(of_one, in_axes=1)(prediction.outputs["exit_logits"]))


@dataclass(frozen=True)
class ExitGates(Loss):
    """Binary cross-entropy of the gates, which are to stop where the classifier's loss is small.

    Attributes:
        beta: the smaller, the later videos end: a gate at place t is to go on while the
            cross-entropy of its classifier is above beta * exp(t / 2).
    """

    name = "exit_gates"
    needs = ("exit_logits", "gate_logits")

    beta: float = 1e-3

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`; a video of fewer than three frames has no gate, and gives 0."""
        gates = prediction.outputs["gate_logits"]
        if gates.shape[1] == 0:
            return jnp.zeros(())
        targets = go_on_targets(prediction.outputs["exit_logits"], context.labels, self.beta)
        losses = optax.sigmoid_binary_cross_entropy(gates, targets[:, 1:-1])
        return jnp.mean(losses)

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(self.beta > 0, f"{path}.beta", "must be positive")


def go_on_targets(exit_logits: Array, labels: Array, beta: float) -> Array:
    """What a gate should have said at every place, without a gradient.

    Args:
        exit_logits: float32 [B, T, C].
        labels: int32 [B, K], the main one first.
        beta: see `ExitGates`.

    Returns:
        float32 [B, T]: 1 where the classifier's cross-entropy is above beta * exp(t / 2).
    """
    length = exit_logits.shape[1]
    losses = optax.softmax_cross_entropy_with_integer_labels(
        jax.lax.stop_gradient(exit_logits), jnp.broadcast_to(labels[:, :1], exit_logits.shape[:2])
    )
    return (losses > beta * jnp.exp(jnp.arange(length) / 2)).astype(jnp.float32)


@dataclass(frozen=True)
class FrameExitStage(StageConfig):
    """A stage of FrameExit; what it trains follows from its losses.

    `exit_gates` trains the gates; any other loss network and classifiers. A gate's gradient does
    not reach the network.
    """

    @property
    def trains_gates(self) -> bool:
        """Whether a loss teaches the gates."""
        return any(isinstance(loss, ExitGates) for loss in self._minimised())

    @property
    def trains_network(self) -> bool:
        """Whether a loss teaches network and classifiers."""
        return any(not isinstance(loss, ExitGates) for loss in self._minimised())

    def _minimised(self) -> list[Loss]:
        return [loss for loss in self.losses.values() if loss.weight > 0]


class FrameExit(Method[FrameExitConfig, FrameExitStage]):
    """As many frames as a video needs, from its middle out."""

    name = "frameexit"
    title = "FrameExit"
    Config = FrameExitConfig
    Stage = FrameExitStage
    traits = Traits(adaptive=True, steerable=True)
    provides = frozenset({"exit_logits", "gate_logits"})

    def module(self) -> FrameExitModule:
        """See `Method`."""
        return FrameExitModule(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`: the network, and what judges after each of its frames.

        A classifier is counted with every frame, and so is a gate, as in the published costs.
        """
        cfg = self.config
        exits = tuple(f"exits_{place}" for place in range(cfg.steps))
        gates = tuple(f"{GATES}_{index}" for index in range(cfg.steps - 2))
        return {
            network_name(cfg.resolution): Network(
                path=(BACKBONE,),
                backbone=cfg.backbone,
                resolution=cfg.resolution,
                outputs=cfg.num_classes,
                hidden=cfg.head_width,
                padding=cfg.padding,
            ),
            GATE: Network(
                path=(),
                children=(*exits, *gates),
                heads=exits,
                macs=gate_macs(),
                charged=cfg.exit == "gates",
            ),
        }

    @property
    def choices(self) -> Choices:
        """See `Method`: a frame is looked at, or the video has ended before it."""
        return self.config.choices

    @classmethod
    def usual_losses(cls, objective: Objective) -> dict[str, Loss]:
        """See `Method`: those of the first stage."""
        return {EveryExit.name: EveryExit()}

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: network and classifiers, then the gates.

        The gates' last epoch is taken: the best by accuracy would be one that never stops.
        """
        usual = cls.usual_losses("joint")
        return {
            "classify": cls.Stage(losses=usual, epochs=50, learning_rate=0.02, schedule="cosine"),
            "gate": cls.Stage(
                losses={ExitGates.name: ExitGates()},
                epochs=10,
                learning_rate=0.02,
                schedule="cosine",
                select="last",
            ),
        }

    def part_of(self, stage: FrameExitStage, path: tuple[str, ...]) -> str:
        """See `Method`; a stage trains what its losses teach."""
        gate = path[0].startswith(GATES)
        return MODEL if (stage.trains_gates if gate else stage.trains_network) else FROZEN

    def training_mode(self, stage: FrameExitStage, keys: Array, moment: Moment) -> Mode:
        """See `Method`; what a stage does not train behaves as in evaluation."""
        trains = {BACKBONE: stage.trains_network, GATES: stage.trains_gates}
        return Mode(train=True, frozen=tuple(n for n, on in trains.items() if not on), keys=keys)

    def control_actions(self, actions: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """See `Method`: exits at random, in the order of the frames.

        Which video ends after how many frames is mixed, among videos that have equally many.
        """
        mixed, lengths = actions.copy(), np.sum(actions >= 0, axis=1)
        for length in np.unique(lengths[lengths > 0]):
            rows = np.flatnonzero(lengths == length)
            counts = generator.permutation(np.sum(actions[rows] == LOOKED_AT, axis=1))
            looked = back_in_time(coarse_to_fine(int(length))) < counts[:, None]
            mixed[rows, :length] = np.where(looked, LOOKED_AT, 1 - LOOKED_AT)
        return mixed

    def stream(self, variables: Tree, *, cost_penalty: float = 0.0) -> Any:
        """See `Method`; there is none.

        Raises:
            UserError: always; says why.
        """
        raise UserError(
            "config.method: 'frameexit' looks at the middle of a video first and then at its ends, "
            "so it has to have the whole of it; call the model on whole clips"
        )
