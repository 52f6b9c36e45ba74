"""Uni-AdaFocus: a glance at some frames decides which frames, and which parts, are focused on.

Wang et al. 2024. Of 48 frames a light network glances at 16. From its features a temporal policy
weighs the parts of the video, and 16 frames are taken by the inverse of that distribution; from its
last maps a spatial policy gives each glance a box of any place and size, between which the boxes of
the frames are interpolated. A heavy network sees those boxes, resized to `crop` pixels. Glances
and parts have a running maximum of embeddings each; classifiers of the parts read both.

One stage from end to end. The cut has no gradient here. The spatial policy learns by classifying
the same boxes cut out of the light network's map, and is drawn towards large boxes; the temporal
one by the classification of the average glance that its weights are expected to give, over M random
sets. As in AdaFocusV2 the heavy network also sees random parts.

From the authors' released code. Of a random set all its beginnings are used, where they draw anew
for each number of frames; the expectation is the same. A glance stands in the middle of its part of
the video, also where that has other than 48 frames. Early exit is not built.
"""

import dataclasses
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.config.model import HEAD_WIDTH
from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network
from ar_net_jax.losses import Loss, LossContext, Target, classification_loss
from ar_net_jax.methods.base import Method
from ar_net_jax.methods.glance_focus import ELSEWHERE, FOCUS, glance_focus_losses
from ar_net_jax.methods.stages import Objective, StageConfig
from ar_net_jax.methods.timed_parts import TimedPart
from ar_net_jax.methods.traits import Traits
from ar_net_jax.methods.uni_adafocus_module import (
    FOCUS_CLASSIFIER,
    GLANCE_CLASSIFIER,
    MAP_CLASSIFIER,
    SPATIAL,
    TEMPORAL,
    UniAdaFocusConfig,
    UniAdaFocusModule,
)
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.modules.space_time_policy import spatial_policy_macs, temporal_policy_macs
from ar_net_jax.modules.step_classifier import step_classifier_macs
from ar_net_jax.ops.actions import Choices

Array = jax.Array


@dataclass(frozen=True)
class WhenToFocus(Loss):
    """Classification of the average glance that the temporal policy is expected to give.

    Attributes:
        target: as in `Accuracy`.
    """

    name = "when_to_focus"
    needs = ("temporal_logits",)

    target: Target = "cross_entropy"

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        logits = prediction.outputs["temporal_logits"]
        return classification_loss(logits, context.labels, self.target)


@dataclass(frozen=True)
class WhereToFocus(Loss):
    """Classification of the spatial policy's boxes, cut out of the light network's maps.

    Attributes:
        target: as in `Accuracy`.
    """

    name = "where_to_focus"
    needs = ("spatial_logits",)

    target: Target = "cross_entropy"

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        logits = prediction.outputs["spatial_logits"]
        return classification_loss(logits, context.labels, self.target)


@dataclass(frozen=True)
class LargeParts(Loss):
    """How far the sides of boxes are from the frame's, squared; of a range of 1."""

    name = "large_parts"
    needs = ("sizes",)

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        return jnp.mean(jnp.square(1 - prediction.outputs["sizes"]))


@dataclass(frozen=True)
class UniAdaFocusRates:
    """Factors of the learning rate by part, beside those of parameter groups in the optimizer.

    Attributes:
        spatial: see `UniAdaFocusModule`, like the following.
        temporal: likewise.
        glance: likewise.
        focus: likewise.
        map_classifier: likewise.
        glance_classifier: likewise.
        focus_classifier: likewise.
    """

    spatial: float = 0.2
    temporal: float = 0.2
    glance: float = 0.5
    focus: float = 1.0
    map_classifier: float = 0.5
    glance_classifier: float = 20.0
    focus_classifier: float = 20.0


@dataclass(frozen=True)
class UniAdaFocusStage(StageConfig):
    """A stage of Uni-AdaFocus.

    Attributes:
        rates: factors of the learning rate by part.
    """

    rates: UniAdaFocusRates = field(default_factory=UniAdaFocusRates)

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        for name, rate in dataclasses.asdict(self.rates).items():
            require(rate >= 0, f"{path}.rates.{name}", "must not be negative")


class UniAdaFocus(Method[UniAdaFocusConfig, UniAdaFocusStage]):
    """A part of some frames, both chosen from a glance at evenly spread ones."""

    name = "uni_adafocus"
    title = "Uni-AdaFocus"
    Config = UniAdaFocusConfig
    Stage = UniAdaFocusStage
    traits = Traits(adaptive=True, crops=True)
    elsewhere = ELSEWHERE
    provides = frozenset(
        {
            *("step_logits", "glance_logits", "focus_logits"),
            *("temporal_logits", "spatial_logits", "sizes"),
        }
    )

    def module(self) -> UniAdaFocusModule:
        """See `Method`."""
        return UniAdaFocusModule(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`; a step's classifier is counted with every frame, as published."""
        cfg = self.config
        side = backbones.map_side(cfg.glance_backbone, cfg.glance_resolution)
        spatial = spatial_policy_macs(side, cfg.glance_width, cfg.spatial_hidden)
        temporal = temporal_policy_macs(cfg.glance_width, cfg.temporal_hidden)
        glance = step_classifier_macs(cfg.glance_width, cfg.num_classes)
        focus = step_classifier_macs(cfg.focus_width, cfg.num_classes, HEAD_WIDTH)
        return {
            **cfg.networks(),
            SPATIAL: Network(path=(SPATIAL,), macs=spatial),
            TEMPORAL: Network(path=(TEMPORAL,), macs=temporal),
            GLANCE_CLASSIFIER: Network(path=(GLANCE_CLASSIFIER,), macs=glance, heads=("linear",)),
            FOCUS_CLASSIFIER: Network(path=(FOCUS_CLASSIFIER,), macs=focus, heads=("linear",)),
            MAP_CLASSIFIER: Network(
                path=(),
                children=(MAP_CLASSIFIER,),
                macs=cfg.glance_width * cfg.num_classes,
                heads=(MAP_CLASSIFIER,),
                charged=False,
            ),
        }

    @property
    def choices(self) -> Choices:
        """See `Method`: a frame is focused on, or not."""
        return self.config.choices

    def main_network(self) -> Network:
        """See `Method`: the heavy network, on whole frames."""
        return dataclasses.replace(self.networks()[FOCUS], resolution=self.config.resolution)

    @property
    def image_size(self) -> int:
        """See `Method`: the side of the frames that parts are cut out of."""
        return self.config.resolution

    def timed_parts(self) -> dict[str, TimedPart]:
        """See `Method`; the light network's frames are none that a choice is made for."""
        return {name: part for name, part in super().timed_parts().items() if name == FOCUS}

    @classmethod
    def usual_losses(cls, objective: Objective) -> dict[str, Loss]:
        """See `Method`."""
        policies = {loss.name: loss for loss in (WhenToFocus(), WhereToFocus(), LargeParts())}
        return {**glance_focus_losses(), **policies}

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: one stage, as released."""
        losses = cls.usual_losses("joint")
        return {"train": cls.Stage(losses=losses, learning_rate=0.002, schedule="cosine")}

    def rate_of(self, stage: UniAdaFocusStage, path: tuple[str, ...]) -> float:
        """See `Method`."""
        rate: float = getattr(stage.rates, path[0])
        return rate
