"""What the methods with a backbone per resolution and a policy network share; no method itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
from typing_extensions import TypeVar

from ar_net_jax import backbones
from ar_net_jax.costs.network import Network, Recurrence
from ar_net_jax.methods.base import FROZEN, MODEL, Method
from ar_net_jax.methods.released import (
    INPUT_SIZE,
    LISTED,
    LITE,
    RESOLUTIONS,
    SKIPS,
    Contents,
    Path,
    ReleasedForm,
    require_expressible,
    require_given,
    tuple_of,
)
from ar_net_jax.methods.stages import StageConfig
from ar_net_jax.methods.timed_parts import TimedPart
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.multi_backbone import LSTM, POLICY, MultiBackboneConfig, backbone_name
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.decide import Forced

Array = jax.Array
C = TypeVar("C", bound=MultiBackboneConfig)

# The parts of the policy network that a warm-up of its extractor trains.
_WARMED_UP = ("backbone", "embedding", "lowest_head", "warmup_head")


@dataclass(frozen=True)
class MultiBackboneStage(StageConfig):
    """A stage of several networks, one of them the policy's.

    Attributes:
        train_policy_features: in a `separate` stage, train the policy's extractor too.
    """

    train_policy_features: bool = False


S = TypeVar("S", bound=MultiBackboneStage, default=MultiBackboneStage)


class ReleasedMultiBackbone(ReleasedForm):
    """Released files with a decision head, an LSTM and a list of backbones."""

    def fits(self, contents: Contents) -> bool:
        """See `ReleasedForm`; five actions beside three backbones are the published Multi-Scale."""
        return contents.decides and not is_published_multi_scale(contents)

    def allows(self, contents: Contents) -> bool:
        """See `ReleasedForm`; their number of actions alone tells them apart."""
        return contents.decides

    def model(self, contents: Contents, given: Mapping[str, str]) -> dict[str, Any]:
        """See `ReleasedForm`."""
        default = str(contents.has_head)
        is_action = given.get("model.policy.is_action", default).lower() in ("true", "1")
        count = len(contents.listed) + int(is_action)
        skips = self.num_skips(contents, count)
        require_given(
            {
                "model.resolutions": count in (1, len(RESOLUTIONS)),
                "model.skips": skips in (0, len(SKIPS)),
            },
            given,
        )
        resolutions = tuple_of(given.get("model.resolutions")) or RESOLUTIONS[:count]
        policy: dict[str, Any] = {
            "cell_state": "advancing",
            "lowest_head": "hidden",
            "backbone": contents.lite,
            "is_action": is_action,
            "resolution": resolutions[-1] if is_action else RESOLUTIONS[-1],
        }
        if contents.hidden:
            policy["hidden_size"] = contents.hidden
        return {
            "resolutions": resolutions,
            "backbones": contents.listed,
            # Where it is given, the tuple here only holds its place until the override.
            "skips": SKIPS if skips == len(SKIPS) else tuple(range(1, skips + 1)),
            "policy": policy,
        }

    def num_skips(self, contents: Contents, resolutions: int) -> int:
        """How many of the actions are skips."""
        return max(contents.actions - resolutions, 0)

    def names(self, method: Method[Any, Any], contents: Contents | None) -> dict[Path, str]:
        """See `ReleasedForm`."""
        names: dict[Path, str] = {
            (POLICY, "backbone"): LITE,
            (POLICY, "lstm"): "rnn",
            (POLICY, "decision"): "linear",
        }
        if method.config.policy.is_action:
            names[POLICY, "lowest_head"] = "lite_fc"
        for i in range(len(method.config.backbones)):
            names[backbone_name(i), "backbone"] = f"{LISTED}.{i}"
            names[backbone_name(i), "head"] = f"new_fc_list.{i}"
        return names

    def check_expressible(self, config: MultiBackboneConfig) -> None:
        """See `ReleasedForm`."""
        policy, sides = config.policy, config.resolutions
        require_expressible(
            sides[0] == INPUT_SIZE >= policy.resolution,
            "resolutions",
            sides,
            f"its highest resolution is {INPUT_SIZE} always",
        )
        require_expressible(config.resize == "nearest", "resize", config.resize, "it has 'nearest'")
        require_expressible(
            policy.lowest_head == "hidden" or not policy.is_action,
            "policy.lowest_head",
            policy.lowest_head,
            "its lowest head reads 'hidden'",
        )
        weight = policy.frame_weight
        require_expressible(
            weight == "equal", "policy.frame_weight", weight, "its frames count alike"
        )


def is_published_multi_scale(contents: Contents) -> bool:
    """Whether a file has the numbers of the published Multi-Scale, and no other method's."""
    return (len(contents.listed), contents.actions) == (3, 5)


class MultiBackboneMethod(Method[C, S]):
    """Networks, choices and separate training; what is decided is the methods' own."""

    Stage = MultiBackboneStage
    separable = True
    released = ReleasedMultiBackbone()
    provides = frozenset({"network_logits"})

    def networks(self) -> dict[str, Network]:
        """See `Method`; the backbones by falling resolution, then policy and LSTM.

        A classifier is counted on its backbone's features even where it reads the LSTM's hidden
        state, as in the paper's figures.
        """
        cfg, policy = self.config, self.config.policy
        learned = ("weight",) if policy.frame_weight == "learned" else ()
        networks = {
            name: Network(
                path=(backbone_name(i),),
                backbone=cfg.backbones[i],
                resolution=cfg.resolutions[i],
                outputs=cfg.num_classes,
                hidden=cfg.head_width,
                heads=("head",),
                padding=cfg.padding,
            )
            for i, name in enumerate(cfg.names)
        }
        networks[POLICY] = Network(
            path=(POLICY,),
            children=("backbone", "embedding", "lowest_head", "warmup_head"),
            backbone=policy.backbone,
            resolution=policy.resolution,
            outputs=cfg.num_classes if policy.is_action else 0,
            hidden=cfg.head_width if policy.is_action else 0,
            heads=("lowest_head", "warmup_head"),
            padding=cfg.padding,
            method="features",
        )
        networks[LSTM] = Network(
            path=(POLICY,),
            children=("lstm", "decision", *learned),
            recurrence=Recurrence(
                backbones.get(policy.backbone).features,
                policy.hidden_size,
                cfg.space.num_actions + len(learned),
            ),
            heads=("decision", *learned),
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

    def timed_parts(self) -> dict[str, TimedPart]:
        """See `Method`: the extractor sees all frames in one call, and the LSTM its features."""
        parts = super().timed_parts()
        return {**parts, POLICY: TimedPart(_extract), LSTM: TimedPart(_decide, after=POLICY)}

    def separate_parts(self, stage: S) -> tuple[str, ...]:
        """See `Method`: the backbones, and the policy's extractor where the stage says so."""
        if stage.objective == "joint":
            return ()
        names = tuple(backbone_name(i) for i in range(len(self.config.backbones)))
        return (*names, POLICY) if stage.train_policy_features else names

    def part_of(self, stage: S, path: tuple[str, ...]) -> str:
        """See `Method`."""
        if stage.objective == "joint":
            return MODEL
        if path[0] != POLICY:
            return path[0]
        warmed_up = POLICY in self.separate_parts(stage) and path[1] in _WARMED_UP
        return POLICY if warmed_up else FROZEN


def _extract(module: nn.Module, frames: Array, actions: Array, mode: Mode) -> Array:
    """The policy's features of every frame, with the resize."""
    return module.policy_features(frames, mode)[0]


def _decide(module: nn.Module, features: Array, actions: Array, mode: Mode) -> Any:
    """The LSTM over time with the decisions."""
    return module.policy.decide(features, Forced(actions))
