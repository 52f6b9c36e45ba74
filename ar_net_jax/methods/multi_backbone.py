"""What the methods with a backbone per resolution and a policy network share; no method itself."""

from dataclasses import dataclass
from typing import TypeVar

import jax

from ar_net_jax.backbones.architectures import feature_dim
from ar_net_jax.costs.network import Network, Recurrence
from ar_net_jax.methods.base import FROZEN, MODEL, Method
from ar_net_jax.methods.stages import StageConfig
from ar_net_jax.modules.multi_backbone import LSTM, POLICY, MultiBackboneConfig, backbone_name
from ar_net_jax.ops.actions import Choices

Array = jax.Array
C = TypeVar("C", bound=MultiBackboneConfig)

# The parts of the policy network that a warm-up of its extractor trains.
_WARMED_UP = ("backbone", "lowest_head", "warmup_head")


@dataclass(frozen=True)
class MultiBackboneStage(StageConfig):
    """A stage of several networks, one of them the policy's.

    Attributes:
        train_policy_features: in a `separate` stage, train the policy's extractor too.
    """

    train_policy_features: bool = False


class MultiBackboneMethod(Method[C]):
    """Networks, choices and separate training; what is decided is the methods' own."""

    separable = True
    provides = frozenset({"network_logits"})

    def networks(self) -> dict[str, Network]:
        """See `Method`; the backbones by falling resolution, then policy and LSTM.

        A classifier is counted on its backbone's features even where it reads the LSTM's hidden
        state, as in the paper's figures.
        """
        cfg, policy = self.config, self.config.policy
        networks = {
            name: Network(
                path=(backbone_name(i),),
                backbone=cfg.backbones[i],
                resolution=cfg.resolutions[i],
                outputs=cfg.num_classes,
                heads=("head",),
                padding=cfg.padding,
            )
            for i, name in enumerate(cfg.names)
        }
        networks[POLICY] = Network(
            path=(POLICY,),
            children=("backbone", "lowest_head", "warmup_head"),
            backbone=policy.backbone,
            resolution=policy.resolution,
            outputs=cfg.num_classes if policy.is_action else 0,
            heads=("lowest_head", "warmup_head"),
            padding=cfg.padding,
            method="features",
        )
        networks[LSTM] = Network(
            path=(POLICY,),
            children=("lstm", "decision"),
            recurrence=Recurrence(
                feature_dim(policy.backbone), policy.hidden_size, cfg.space.num_actions
            ),
            heads=("decision",),
        )
        return networks

    @property
    def choices(self) -> Choices:
        """See `Method`: the resolutions, then the skips."""
        return self.config.choices

    def tell(self, choice: int) -> str:
        """See `Method`."""
        space = self.config.space
        if choice < space.num_resolutions:
            return f"{space.resolutions[choice]} px"
        return f"skips {space.skips[choice - space.num_resolutions]}"

    def separate_parts(self, stage: StageConfig) -> tuple[str, ...]:
        """See `Method`: the backbones, and the policy's extractor where the stage says so."""
        if stage.objective == "joint":
            return ()
        names = tuple(backbone_name(i) for i in range(len(self.config.backbones)))
        with_policy = getattr(stage, "train_policy_features", False)
        return (*names, POLICY) if with_policy else names

    def part_of(self, stage: StageConfig, path: tuple[str, ...]) -> str:
        """See `Method`."""
        if stage.objective == "joint":
            return MODEL
        if path[0] != POLICY:
            return path[0]
        warmed_up = POLICY in self.separate_parts(stage) and path[1] in _WARMED_UP
        return POLICY if warmed_up else FROZEN
