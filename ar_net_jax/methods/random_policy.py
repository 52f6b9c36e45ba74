"""Random policy (Table 1): AR-Net's backbones under independent, uniformly random actions.

As released: a skip drops only the frame it is drawn for, and training draws actions too.
"""

import dataclasses
from dataclasses import dataclass

import jax

from ar_net_jax.methods.multi_backbone import MultiBackboneMethod
from ar_net_jax.methods.stages import StageConfig, baseline_stages
from ar_net_jax.methods.traits import Traits
from ar_net_jax.modules.frame_runner import EVALUATION, Mode
from ar_net_jax.modules.multi_backbone import MultiBackbone, MultiBackboneConfig
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.actions import Choices
from ar_net_jax.ops.decide import Forced

Array = jax.Array

_ACTION_SALT = 2_001


@dataclass(frozen=True)
class RandomPolicyConfig(MultiBackboneConfig):
    """A model of Random policy; fields as in `MultiBackboneConfig`."""


class RandomPolicyModule(MultiBackbone):
    """Decisions are drawn, not learned; `mode.keys` is always needed."""

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`."""
        actions = self._draw(mode.keys, frames.shape[1])
        features = self.policy_features(frames, mode, frame_mask)
        steps = self.policy.decide(features[0], Forced(actions), use_skips=False)
        return self.predict_under(frames, mode, features, steps, frame_mask)

    def _draw(self, keys: Array | None, length: int) -> Array:
        """Independent uniform actions int32 [B, T], each video's from its own key."""
        if keys is None:
            raise ValueError("the random policy draws its actions: give mode.keys")
        count = self.config.space.num_actions

        def one(key: Array) -> Array:
            return jax.random.randint(jax.random.fold_in(key, _ACTION_SALT), (length,), 0, count)

        return jax.vmap(one)(keys)


class RandomPolicy(MultiBackboneMethod[RandomPolicyConfig]):
    """AR-Net without a policy worth the name."""

    name = "random_policy"
    title = "Random policy"
    Config = RandomPolicyConfig
    traits = Traits(adaptive=True, draws=True)

    def module(self) -> RandomPolicyModule:
        """See `Method`."""
        return RandomPolicyModule(self.config)

    @property
    def choices(self) -> Choices:
        """See `Method`: every skip leaves out its own frame alone."""
        choices = super().choices
        lengths = tuple(min(length, 1) for length in choices.skip_lengths)
        return dataclasses.replace(choices, skip_lengths=lengths)

    def tell(self, choice: int) -> str:
        """See `Method`."""
        return "not looked at" if self.choices.skip_lengths[choice] else super().tell(choice)

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: as long as AR-Net's, with nothing to weigh against accuracy."""
        return baseline_stages(cls.Stage)
