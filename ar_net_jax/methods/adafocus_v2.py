"""AdaFocusV2: a glance at every frame decides which part of it a heavy network sees.

Wang et al. 2022. A light network sees whole frames; its last map, through a small network and a GRU
over frames, gives a place per frame, and a heavy network sees the square of `crop` pixels there.
Both feature vectors, through the layer of the head `max_mlp`, enter a maximum over the frames so
far, which every step has a linear classifier of its own for.

One stage from end to end. The cut is bilinear, so the losses' gradient reaches the policy through
the place; each batch goes a second time through the heavy network with uniformly random places,
which keeps that network a good judge of every place. Glance and policy see the same in both passes
and run once.

With `exit` a video ends as soon as its classifier's confidence reaches a threshold ("AdaFocusV2+").
The thresholds are found on predictions, without training: `step_confidences` and
`ops.confidence.exit_thresholds`.

From the authors' released code. The order from coarse to fine is theirs for ten frames and ours for
other numbers (`ops.frame_order`). Resampling is not counted in GFLOPs, as published and as
elsewhere here: it would be about 1 % more. The released code adds nothing for the policy's gradient
beyond its learning rate; what else the paper may have had is not confirmed.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from ar_net_jax import backbones
from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network
from ar_net_jax.losses import Loss
from ar_net_jax.methods.adafocus_v2_module import (
    LOOKED_AT,
    POLICY,
    AdaFocusV2Config,
    AdaFocusV2Module,
)
from ar_net_jax.methods.base import Method, Tree
from ar_net_jax.methods.glance_focus import CLASSIFIER, ELSEWHERE, FOCUS, glance_focus_losses
from ar_net_jax.methods.stages import Objective, StageConfig
from ar_net_jax.methods.traits import Traits
from ar_net_jax.modules.crop_policy import crop_policy_macs
from ar_net_jax.modules.step_classifier import step_classifier_macs
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.confidence import confidence

__all__ = ["LOOKED_AT", "AdaFocusV2", "AdaFocusV2Config", "AdaFocusV2Rates", "AdaFocusV2Stage"]

Array = jax.Array


@dataclass(frozen=True)
class AdaFocusV2Rates:
    """Factors of the learning rate by part, beside those of parameter groups in the optimizer.

    Attributes:
        policy: see `AdaFocusV2Module`, like the following.
        glance: likewise.
        focus: likewise.
        classifier: likewise.
    """

    policy: float = 0.1
    glance: float = 0.5
    focus: float = 1.0
    classifier: float = 5.0


@dataclass(frozen=True)
class AdaFocusV2Stage(StageConfig):
    """A stage of AdaFocusV2.

    Attributes:
        rates: factors of the learning rate by part.
    """

    rates: AdaFocusV2Rates = field(default_factory=AdaFocusV2Rates)

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        for name, rate in dataclasses.asdict(self.rates).items():
            require(rate >= 0, f"{path}.rates.{name}", "must not be negative")


class AdaFocusV2(Method[AdaFocusV2Config, AdaFocusV2Stage]):
    """A part of every frame, chosen from a glance at it and at those before."""

    name = "adafocus_v2"
    title = "AdaFocusV2"
    Config = AdaFocusV2Config
    Stage = AdaFocusV2Stage
    traits = Traits(adaptive=True, crops=True)
    elsewhere = ELSEWHERE
    provides = frozenset({"step_logits", "glance_logits", "focus_logits"})

    def module(self) -> AdaFocusV2Module:
        """See `Method`."""
        return AdaFocusV2Module(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`; a step's classifier is counted with every frame, as published."""
        cfg = self.config
        side = backbones.map_side(cfg.glance_backbone, cfg.glance_resolution)
        policy = crop_policy_macs(side, cfg.glance_width, cfg.policy_width, cfg.policy_hidden)
        classifier = step_classifier_macs(cfg.glance_width + cfg.focus_width, cfg.num_classes)
        return {
            **cfg.networks(),
            POLICY: Network(path=(POLICY,), macs=policy, heads=("place",)),
            CLASSIFIER: Network(path=(CLASSIFIER,), macs=classifier, heads=("linear",)),
        }

    @property
    def choices(self) -> Choices:
        """See `Method`: a frame is looked at, or with `exit` its video has ended before it."""
        return self.config.choices

    def main_network(self) -> Network:
        """See `Method`: the heavy network, on whole frames."""
        return dataclasses.replace(self.networks()[FOCUS], resolution=self.config.resolution)

    @property
    def image_size(self) -> int:
        """See `Method`: the side of the frames that parts are cut out of."""
        return self.config.resolution

    @classmethod
    def usual_losses(cls, objective: Objective) -> dict[str, Loss]:
        """See `Method`."""
        return glance_focus_losses()

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: one stage, as released."""
        losses = cls.usual_losses("joint")
        return {"train": cls.Stage(losses=losses, learning_rate=0.002, schedule="cosine")}

    def rate_of(self, stage: AdaFocusV2Stage, path: tuple[str, ...]) -> float:
        """See `Method`."""
        rate: float = getattr(stage.rates, path[0])
        return rate

    def control_actions(self, actions: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """See `Method`: as many frames of each video as another one was given, its first ones.

        A shorter video gives all of its own. Where to look is left to `Mode.random_crops`.
        """
        length = actions.shape[1]
        order = np.array(self.config.look_order(length))
        counts = generator.permutation(np.sum(actions == LOOKED_AT, axis=1))
        mixed = np.where(actions < 0, actions, 1 - LOOKED_AT)
        for row, count in zip(mixed, counts, strict=True):
            row[order[row[order] >= 0][:count]] = LOOKED_AT
        return mixed

    def step_confidences(self) -> Callable[[Tree, Array], Array]:
        """What exits are chosen from: (variables, frames uint8 [B, T, S, S, 3]) -> [B, T], jitted.

        Of every video, the confidence after each of its frames if none ends it.
        """
        module = AdaFocusV2Module(self.config)

        def run(variables: Tree, frames: Array) -> Array:
            found: Any = module.apply(variables, frames)
            return confidence(found.outputs["step_logits"][:, 0])

        return jax.jit(run)
