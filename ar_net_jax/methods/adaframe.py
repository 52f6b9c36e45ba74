"""AdaFrame: an LSTM goes from frame to frame of a video, and stops where no gain is to be expected.

Wu et al. 2019. A light network's features of a few frames, spread over the video, are its memory.
At every step the heavy network looks at one frame; the LSTM takes its features, and what its state
before finds in the memory by attention. From the state follow a prediction; where to look next, as
the mean of a normal distribution over the video's length; and the utility, the gain expected of
further steps. Gain is by how much a step surpasses the highest margin (of the right class over the
best other one) so far. The prediction learns by cross-entropy after the last step, the utility by
regression on the discounted gains, the locations by REINFORCE with the utility as the baseline. In
evaluation the mean is taken, and a video is done as soon as its utility has fallen short of its
highest by a margin for the second time.

A frame that is looked at again is not computed again, so the cost is of the distinct frames; the
LSTM is charged for every step.

There is no public code. Reconstructed, because it is not confirmed:

- The first frame: the middle one. The first step's prediction earns no reward, since nothing was
  chosen for it; so the return of a step is of the steps after it, discounted by .9, and the last
  one has none.
- The networks are trained as classifiers of frames by themselves, then frozen. A stage between
  trains the LSTM and its classifier on frames drawn evenly, so that there are gains to be learnt
  from when the locations begin to learn.
- Utility and REINFORCE weigh as much as cross-entropy. SGD, as for all methods.
- The position encoding is of the place in the memory, and stays in what attention averages. Query
  and slots are multiplied as they are, not divided by the root of their width.
- A location times the index of the last frame, rounded, is the frame. The density is of the
  location as drawn, also where it lies beyond an end and the end is taken.
- The head `max_mlp` classifies the maximum of the embeddings of the states so far; the paper has a
  linear layer on the state alone, which is `mean`.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh

from ar_net_jax import backbones
from ar_net_jax.costs.network import Network
from ar_net_jax.errors import UserError
from ar_net_jax.losses import Accuracy, Loss
from ar_net_jax.methods.adaframe_losses import Selection, Utility
from ar_net_jax.methods.adaframe_module import (
    LSTM,
    MAIN,
    MEMORY,
    RECURRENCE,
    AdaFrameConfig,
    AdaFrameModule,
    Locations,
)
from ar_net_jax.methods.base import FROZEN, Batch, Method, Tree
from ar_net_jax.methods.stages import Moment, Objective, StageConfig
from ar_net_jax.methods.timed_parts import TimedPart
from ar_net_jax.methods.traits import Traits
from ar_net_jax.methods.uniform import network_name
from ar_net_jax.modules.frame_runner import Mode, mask_or_ones
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.modules.recurrence import cell_macs
from ar_net_jax.ops.actions import Choices

Array = jax.Array


@dataclass(frozen=True)
class AdaFrameStage(StageConfig):
    """A stage of AdaFrame; a joint one leaves the networks that take frames as they are.

    Attributes:
        locations: in a joint stage, `policy` draws about what the LSTM says, `uniform` from the
            whole video evenly, whatever it says; REINFORCE then has no gradient.
    """

    locations: Locations = "policy"


class AdaFrame(Method[AdaFrameConfig, AdaFrameStage]):
    """Which frame next, and whether another, from what has been seen."""

    name = "adaframe"
    title = "AdaFrame"
    Config = AdaFrameConfig
    Stage = AdaFrameStage
    traits = Traits(adaptive=True)
    separable = True
    provides = frozenset({"step_logits", "utility", "step_log_probability"})

    def module(self) -> AdaFrameModule:
        """See `Method`."""
        return AdaFrameModule(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`; each step of the LSTM is charged with attention and all heads."""
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
                (MEMORY, MEMORY, cfg.memory_backbone, cfg.memory_resolution),
            )
        }
        heavy, light = (backbones.get(b).features for b in (cfg.backbone, cfg.memory_backbone))
        hidden, wide = cfg.hidden_size, cfg.head_width
        attention = ((hidden, light), *((light, cfg.memory_frames),) * 2)
        embedding = ((hidden, wide),) if wide else ()
        classifier = (wide or hidden, cfg.num_classes)
        decided = (hidden, 2)  # Location and utility.
        linear = (*attention, *embedding, classifier, decided)
        found[LSTM] = Network(
            path=(RECURRENCE,),
            macs=cell_macs(heavy + light, hidden)
            + sum(inputs * outputs for inputs, outputs in linear),
            heads=("query", "location", "utility", "classifier"),
        )
        return found

    @property
    def choices(self) -> Choices:
        """See `Method`: a frame is looked at, or not."""
        return self.config.choices

    @classmethod
    def usual_losses(cls, objective: Objective) -> dict[str, Loss]:
        """See `Method`."""
        if objective == "separate":
            return super().usual_losses(objective)
        return {"accuracy": Accuracy(), "utility": Utility(), "selection": Selection()}

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: both networks; the LSTM on random frames; then all that it decides."""
        joint = cls.usual_losses("joint")
        return {
            "warmup": cls.Stage(
                objective="separate",
                losses=cls.usual_losses("separate"),
                epochs=50,
                learning_rate=0.02,
                decay_epochs=(20, 40),
            ),
            "random": cls.Stage(
                losses=joint,
                locations="uniform",
                epochs=50,
                learning_rate=0.01,
                decay_epochs=(20, 40),
                # Evaluation follows the policy, which learns nothing here.
                select="last",
            ),
            "joint": cls.Stage(
                losses=joint,
                epochs=50,
                learning_rate=0.01,
                decay_epochs=(20, 40),
            ),
        }

    def separate_parts(self, stage: AdaFrameStage) -> tuple[str, ...]:
        """See `Method`: the two networks that take frames."""
        return (MAIN, MEMORY) if stage.objective == "separate" else ()

    def part_of(self, stage: AdaFrameStage, path: tuple[str, ...]) -> str:
        """See `Method`; a joint stage leaves the networks that take frames as they are."""
        frozen = stage.objective == "joint" and path[0] in (MAIN, MEMORY)
        return FROZEN if frozen else super().part_of(stage, path)

    def training_mode(self, stage: AdaFrameStage, keys: Array, moment: Moment) -> Mode:
        """See `Method`."""
        frozen = (MAIN, MEMORY) if stage.objective == "joint" else ()
        return Mode(train=True, frozen=frozen, keys=keys)

    def predict_in_training(
        self,
        stage: AdaFrameStage,
        variables: Tree,
        batch: Batch,
        mode: Mode,
        mesh: Mesh | None,
    ) -> tuple[Prediction, Tree]:
        """See `Method`; with the locations that the stage says."""
        del mesh
        prediction, updated = self.module().apply(
            variables, batch["frames"], mode, locations=stage.locations, mutable=["batch_stats"]
        )
        return prediction, updated.get("batch_stats", {})

    def timed_parts(self) -> dict[str, TimedPart]:
        """See `Method`; the light network on the memory's frames alone."""
        return {**super().timed_parts(), MEMORY: TimedPart(_recall)}

    def stream(self, variables: Any, *, cost_penalty: float = 0.0) -> Any:
        """See `Method`.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"config.method: '{self.name}' goes back and forth in a video and remembers all of it, "
            "so it cannot take frames as they come; call the model on whole clips"
        )


def _recall(module: nn.Module, frames: Array, actions: Array, mode: Mode) -> Array:
    """The memory's features, with the resize."""
    return module.recall(frames, mask_or_ones(None, frames), mode)[0].slots
