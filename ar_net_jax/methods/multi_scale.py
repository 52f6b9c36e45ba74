"""Multi-Scale (Table 1): every resolution on every frame, all predictions averaged."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.config.schema import require
from ar_net_jax.costs.network import Network
from ar_net_jax.methods.base import Method
from ar_net_jax.methods.multi_backbone import (
    MultiBackboneMethod,
    ReleasedMultiBackbone,
    is_published_multi_scale,
)
from ar_net_jax.methods.released import Contents
from ar_net_jax.methods.stages import StageConfig, baseline_stages
from ar_net_jax.modules.frame_runner import EVALUATION, Mode, mask_or_ones
from ar_net_jax.modules.multi_backbone import LSTM, POLICY, MultiBackbone, MultiBackboneConfig
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.actions import Choices

Array = jax.Array

_DECISION = ("linear.weight", "linear.bias")


@dataclass(frozen=True)
class MultiScaleConfig(MultiBackboneConfig):
    """A model of Multi-Scale; fields as in `MultiBackboneConfig`, and nothing is skipped."""

    skips: tuple[int, ...] = ()

    @property
    def choices(self) -> Choices:
        """One: every network on every frame."""
        names = (*self.names, *((POLICY, LSTM) if self.policy.is_action else ()))
        return Choices((" + ".join(self.space.names),), dict.fromkeys(names, (1.0,)))

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(not self.skips, f"{path}.skips", "multi_scale uses every frame; leave it empty")


class MultiScaleModule(MultiBackbone):
    """Averages the predictions of all resolutions on all frames."""

    def __call__(
        self, frames: Array, mode: Mode = EVALUATION, *, frame_mask: Array | None = None
    ) -> Prediction:
        """Classifies videos; arguments as in `Method.module`. Every resolution has weight one."""
        features, seen = self.policy_features(frames, mode, frame_mask)
        steps = self.policy.decide(features)
        mask = mask_or_ones(frame_mask, frames)
        weights = jnp.ones((*mask.shape, len(self.config.resolutions))) * mask[..., None]
        rows, executed = self.frame_rows(frames, mode, features, steps, weights > 0)
        if self.config.policy.is_action:
            steps_run = jnp.asarray(mask.shape[0] * mask.shape[1], jnp.int32)
            executed = {**executed, POLICY: seen, LSTM: steps_run}
        return Prediction(
            logits=self.video_logits(rows, weights),
            calls=self.config.choices.count(mask[..., None].astype(jnp.float32)),
            executed=executed,
            network_logits=self.network_logits(rows, mode),
        )


class ReleasedMultiScale(ReleasedMultiBackbone):
    """Released files of Multi-Scale, whose decision head has the row of a skip never taken."""

    def fits(self, contents: Contents) -> bool:
        """See `ReleasedForm`."""
        few = contents.actions <= len(contents.listed) + 2
        return contents.decides and (few or is_published_multi_scale(contents))

    def num_skips(self, contents: Contents, resolutions: int) -> int:
        """None: the rows for skips are of no use."""
        return 0

    def read(self, arrays: dict[str, np.ndarray], method: Method[Any, Any]) -> None:
        """Leaves out the decision head's rows for skips."""
        for key in _DECISION:
            if key in arrays:
                arrays[key] = arrays[key][: len(method.config.resolutions)]

    def write(self, state: dict[str, np.ndarray]) -> None:
        """Gives the decision head one row more, of zeros."""
        for key in _DECISION:
            state[key] = np.concatenate([state[key], np.zeros_like(state[key][:1])])


class MultiScale(MultiBackboneMethod[MultiScaleConfig]):
    """All resolutions at once.

    If the policy's extractor serves the lowest resolution it counts with an LSTM step, as in the
    released model (and in the paper's 110.4 GFLOPs per video), though without a decision head.
    """

    name = "multi_scale"
    title = "Multi-Scale"
    Config = MultiScaleConfig
    released = ReleasedMultiScale()

    def module(self) -> MultiScaleModule:
        """See `Method`."""
        return MultiScaleModule(self.config)

    def networks(self) -> dict[str, Network]:
        """See `Method`; a policy that predicts nothing is not charged."""
        networks = super().networks()
        used = self.config.policy.is_action
        lstm = networks[LSTM]
        assert lstm.recurrence is not None  # It is a recurrent network.
        recurrence = dataclasses.replace(lstm.recurrence, outputs=0)
        networks[POLICY] = dataclasses.replace(networks[POLICY], charged=used)
        networks[LSTM] = dataclasses.replace(lstm, charged=used, recurrence=recurrence)
        return networks

    def tell(self, choice: int) -> str:
        """See `Method`."""
        return " + ".join(f"{side} px" for side in self.config.resolutions)

    @classmethod
    def stages(cls) -> dict[str, StageConfig]:
        """See `Method`: as long as AR-Net's."""
        return baseline_stages(cls.Stage)
