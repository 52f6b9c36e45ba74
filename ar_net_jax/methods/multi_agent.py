"""MultiAgent: agents on the time line go back, forward, or stay, until all of them stay.

Wu et al. 2019 (Multi-Agent Reinforcement Learning Based Frame Sampling). The agents start spread
evenly. In each step each one sees the features of its own frame and of its neighbours' frames; a
GRU, the same for all, carries what it has seen; from its state follows the probability of each
move. The prediction is the average of the classifier's on the frames where the agents end. A move
is rewarded by what it does to the classifier's prediction of the agent's own frame, and learnt by
REINFORCE, jointly with the classifier's cross-entropy.

The cost is of the distinct frames that were looked at on the way, not of the last ones alone, as
some comparisons count; the GRU is charged for every step of every agent.

There is no public code, and little of it is confirmed. Reconstructed:

- Agents, neighbours on each side, stride, steps: 3, 1, 1 (one of 16 frames) and 10. Beyond the
  outermost agents there are zeros.
- Agents do not pass each other. One that would stops where its neighbour was, and of two that
  would exchange their places the later one stays. A video of fewer frames than agents has several
  on its last frame.
- A reward of 1 or -1 where the frame's prediction becomes right or wrong, else the change of the
  right class's probability; each agent has its own. Discount .9, entropy .01, and as the baseline
  the mean return of all agents of the batch in that step.
- Done is when the move of every agent is to stay. One that pushes against an end, or a neighbour,
  has not chosen to stay.
- The backbone is trained as a classifier of frames first, then frozen; the classifier on it goes on
  learning. SGD, as for all methods.
- Imposed frames, as of a control that looks at random ones, are all averaged.
"""

from typing import Any

import jax

from ar_net_jax import backbones
from ar_net_jax.costs.network import Network
from ar_net_jax.errors import UserError
from ar_net_jax.losses import Accuracy, Loss
from ar_net_jax.methods.base import FROZEN, Method
from ar_net_jax.methods.multi_agent_losses import Moves
from ar_net_jax.methods.multi_agent_module import (
    GRU,
    MAIN,
    MOVES,
    POLICY,
    MultiAgentConfig,
    MultiAgentModule,
)
from ar_net_jax.methods.stages import Moment, Objective, StageConfig
from ar_net_jax.methods.traits import Traits
from ar_net_jax.methods.uniform import network_name
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.recurrence import cell_macs
from ar_net_jax.ops.actions import Choices

Array = jax.Array


class MultiAgent(Method[MultiAgentConfig]):
    """Which frames, by agents that move."""

    name = "multi_agent"
    title = "MultiAgent"
    Config = MultiAgentConfig
    traits = Traits(adaptive=True)
    separable = True
    provides = frozenset(Moves.needs)

    def module(self) -> MultiAgentModule:
        """See `Method`."""
        return MultiAgentModule(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`; each step of an agent is charged with the GRU and the move."""
        cfg = self.config
        # Of the frames of the agent and its neighbours.
        seen = (2 * cfg.neighbours + 1) * backbones.get(cfg.backbone).features
        return {
            network_name(cfg.resolution): Network(
                path=(MAIN,),
                backbone=cfg.backbone,
                resolution=cfg.resolution,
                outputs=cfg.num_classes,
                hidden=cfg.head_width,
                heads=("head",),
                padding=cfg.padding,
            ),
            GRU: Network(
                path=(POLICY,),
                macs=cell_macs(seen, cfg.hidden_size, gates=3) + cfg.hidden_size * MOVES,
                heads=("move",),
            ),
        }

    @property
    def choices(self) -> Choices:
        """See `Method`: a frame is looked at, or not."""
        return self.config.choices

    @classmethod
    def usual_losses(cls, objective: Objective) -> dict[str, Loss]:
        """See `Method`."""
        if objective == "separate":
            return super().usual_losses(objective)
        return {"accuracy": Accuracy(), "moves": Moves()}

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: the backbone by itself, then classifier and agents."""
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
                epochs=50,
                learning_rate=0.01,
                decay_epochs=(20, 40),
            ),
        }

    def separate_parts(self, stage: StageConfig) -> tuple[str, ...]:
        """See `Method`: the backbone with its classifier."""
        return (MAIN,) if stage.objective == "separate" else ()

    def part_of(self, stage: StageConfig, path: tuple[str, ...]) -> str:
        """See `Method`; a joint stage leaves the backbone as it is, but not its classifier."""
        frozen = stage.objective == "joint" and path[:2] == (MAIN, "backbone")
        return FROZEN if frozen else super().part_of(stage, path)

    def training_mode(self, stage: StageConfig, keys: Array, moment: Moment) -> Mode:
        """See `Method`; in a joint stage BatchNorms go by what they know."""
        frozen = (MAIN,) if stage.objective == "joint" else ()
        return Mode(train=True, frozen=frozen, keys=keys)

    def stream(self, variables: Any, *, cost_penalty: float = 0.0) -> Any:
        """See `Method`.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"config.method: '{self.name}' has agents all over a video from the start, so it "
            "cannot take frames as they come; call the model on whole clips"
        )
