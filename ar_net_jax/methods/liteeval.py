"""LiteEval: a light network and LSTM on every frame, a heavy pair where a gate asks for it.

Wu et al. 2019. The coarse LSTM reads the features of a light network. At every frame a gate sees
these features and the state of the fine LSTM as the frame before left it. Where it opens, the heavy
network looks at the frame and the fine LSTM takes a step, on its features and the coarse ones.
Where it stays shut, the fine LSTM's state is synchronised: its first entries become the coarse
LSTM's state, the rest stays. A linear layer on the last fine state classifies the video, so nothing
is averaged. Gate and LSTMs learn together by straight-through Gumbel-Softmax samples and a penalty
on how far the gate's usage is from a target.

As in the authors' code, where the paper's figure differs, the gate reads the projected coarse
features, not the coarse state. Gumbel noise is halved; the temperature falls with the step.

Reconstructed, because it is told nowhere, or differently in different places:

- How the two networks were trained: the authors start from stored features. Here a stage of its own
  trains each as a classifier of frames, and the joint stage freezes them.
- The target usage: .1, .15 and .2 in different places of their code; .1 here.
- The penalty's growth, 2 - exp(-step / epochs): "step" is taken to be the training step.
- Optimizer, learning rate and epochs: theirs is Adam at .1, for up to 500 epochs; here it is SGD,
  as for all methods.
- The LSTMs' sizes, which are those for FCVID; and the light network's 112 px, which follow from its
  published cost.

Theirs runs the fine LSTM on every frame and drops what was not asked for. Here it runs where the
gate opens, with the same result: in the routed form, each step of the scan runs heavy network and
fine LSTM on the videos whose gate is open, and on no others.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network
from ar_net_jax.losses import Accuracy, Loss, LossContext, Separate, batch_usage
from ar_net_jax.methods.base import FROZEN, Method
from ar_net_jax.methods.liteeval_module import (
    COARSE,
    COARSE_LSTM,
    FINE_LSTM,
    MAIN,
    RECURRENCE,
    LiteEvalConfig,
    LiteEvalModule,
)
from ar_net_jax.methods.stages import Moment, Objective, StageConfig
from ar_net_jax.methods.traits import Traits
from ar_net_jax.methods.uniform import network_name
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.gated_recurrence import OPEN
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.modules.recurrence import cell_macs
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.decide import GumbelSample
from ar_net_jax.ops.gumbel import MAX_TEMPERATURE, MIN_TEMPERATURE

Array = jax.Array


@dataclass(frozen=True)
class GateUsage(Loss):
    """How far the share of frames that the gate opens on is from a target, squared.

    Micro-batches add up to the whole batch's loss as those of `Uniform` do.

    Attributes:
        target: the share.
        rise_steps: n; at step s of the stage the loss is multiplied by 2 - exp(-s / n), which rises
            from 1 to 2. 0 leaves it as it is.
    """

    name = "gate_usage"
    needs = ("decisions",)
    needs_batch_usage = True

    target: float = 0.1
    rise_steps: float = 0.0

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        away = batch_usage(prediction, context)[OPEN] - self.target
        rise = 2 - jnp.exp(-context.step / self.rise_steps) if self.rise_steps else 1.0
        return rise * jnp.square(away)

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(0 <= self.target <= 1, f"{path}.target", "is a share, from 0 to 1")
        require(self.rise_steps >= 0, f"{path}.rise_steps", "must not be negative")


@dataclass(frozen=True)
class LiteEvalStage(StageConfig):
    """A stage of LiteEval.

    Attributes:
        freeze_backbones: in a `joint` stage, leave the two networks that take frames as they are
            and train gate, LSTMs and projections.
        tau_decay: at step s of the stage the Gumbel-Softmax temperature is exp(tau_decay * s),
        tau_min: and never below this.
        noise_scale: multiplies the Gumbel noise.
    """

    freeze_backbones: bool = True
    tau_decay: float = -1e-4
    tau_min: float = 0.5
    noise_scale: float = 0.5

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(
            not (self.objective == "joint" and self.freeze_backbones)
            or Separate.name not in self.losses,
            f"{path}.losses.{Separate.name}",
            "would train the networks that freeze_backbones leaves alone; leave one of the two out",
        )
        require(-math.inf < self.tau_decay <= 0, f"{path}.tau_decay", "must not be positive")
        require(
            MIN_TEMPERATURE <= self.tau_min <= MAX_TEMPERATURE,
            f"{path}.tau_min",
            f"samples need a temperature of {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}",
        )
        require(self.noise_scale >= 0, f"{path}.noise_scale", "must not be negative")

    def temperature(self, step: Array) -> Array:
        """Of the step: max(tau_min, exp(tau_decay * step)), a float32 scalar."""
        return jnp.maximum(self.tau_min, jnp.exp(self.tau_decay * step))


class LiteEval(Method[LiteEvalConfig, LiteEvalStage]):
    """Heavy features only where light ones do not tell enough."""

    name = "liteeval"
    title = "LiteEval"
    Config = LiteEvalConfig
    Stage = LiteEvalStage
    traits = Traits(adaptive=True, steerable=True, streams=True)
    separable = True
    provides = frozenset({"decisions", "network_logits"})

    def module(self) -> LiteEvalModule:
        """See `Method`."""
        return LiteEvalModule(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`.

        An LSTM is counted with the linear layer before it, the coarse one with the gate too; the
        video's classifier, which runs once a video, is not counted.
        """
        cfg = self.config
        found = {
            name: Network(
                path=(module,),
                backbone=backbone,
                resolution=resolution,
                heads=("head",),
                padding=cfg.padding,
                method="features",
            )
            for name, module, backbone, resolution in (
                (network_name(cfg.resolution), MAIN, cfg.backbone, cfg.resolution),
                (COARSE, COARSE, cfg.coarse_backbone, cfg.coarse_resolution),
            )
        }
        light, heavy = (backbones.get(b).features for b in (cfg.coarse_backbone, cfg.backbone))
        width, hidden = cfg.coarse_width, cfg.fine_hidden
        gate = (width + 2 * hidden) * len(cfg.choices)
        coarse = light * width + cell_macs(width, cfg.coarse_hidden) + gate
        fine = heavy * cfg.fine_width + cell_macs(cfg.fine_width + width, hidden)
        for name, module, macs in ((COARSE_LSTM, "coarse", coarse), (FINE_LSTM, "fine", fine)):
            found[name] = Network((RECURRENCE, module), macs=macs, heads=("projection", "head"))
        return found

    @property
    def choices(self) -> Choices:
        """See `Method`: the heavy network looks too, or the light one alone."""
        return self.config.choices

    @classmethod
    def usual_losses(cls, objective: Objective) -> dict[str, Loss]:
        """See `Method`."""
        if objective == "separate":
            return super().usual_losses(objective)
        return {"accuracy": Accuracy(), "gate_usage": GateUsage(target=0.1, rise_steps=100)}

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: both networks by themselves, then gate and LSTMs on their features."""
        return {
            "warmup": cls.Stage(
                objective="separate",
                losses=cls.usual_losses("separate"),
                epochs=50,
                learning_rate=0.02,
                decay_epochs=(20, 40),
            ),
            "joint": cls.Stage(
                losses=cls.usual_losses("joint"),
                epochs=100,
                learning_rate=0.01,
                decay_epochs=(40, 80),
                # The most accurate epoch may be an early one, whose usage is far from the target.
                select="last",
            ),
        }

    def separate_parts(self, stage: LiteEvalStage) -> tuple[str, ...]:
        """See `Method`: the two networks that take frames."""
        return (MAIN, COARSE) if stage.objective == "separate" else ()

    def part_of(self, stage: LiteEvalStage, path: tuple[str, ...]) -> str:
        """See `Method`; a joint stage may leave the networks as they are."""
        frozen = stage.objective == "joint" and stage.freeze_backbones
        return FROZEN if frozen and path[0] in (MAIN, COARSE) else super().part_of(stage, path)

    def training_mode(self, stage: LiteEvalStage, keys: Array, moment: Moment) -> Mode:
        """See `Method`: the gate is sampled, at the step's temperature."""
        if stage.objective == "separate":
            return Mode(train=True, keys=keys)
        tau = stage.temperature(moment.step)
        return Mode(
            train=True,
            frozen=(MAIN, COARSE) if stage.freeze_backbones else (),
            keys=keys,
            decide=GumbelSample(tau, noise_scale=stage.noise_scale),
        )

    def training_scalars(self, stage: LiteEvalStage, moment: Moment) -> dict[str, Array]:
        """See `Method`: the temperature `tau`."""
        return {"tau": stage.temperature(moment.step)} if stage.objective == "joint" else {}

    def stream(self, variables: Any, *, cost_penalty: float = 0.0) -> Any:
        """See `Method`."""
        from ar_net_jax.methods.liteeval_stream import LiteEvalStream

        return LiteEvalStream(self, variables, cost_penalty=cost_penalty)
