"""The lookup table of a model's costs, and GFLOPs per frame and per video from policy usage."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from ar_net_jax.backbones.architectures import feature_dim
from ar_net_jax.costs.modules import frame_gflops, lstm_gflops
from ar_net_jax.errors import UserError

Array = jax.Array | np.ndarray


@dataclasses.dataclass(frozen=True)
class CostTable:
    """GFLOPs of every action and of the policy, all under one convention.

    A model without a policy is a table of one action, whose cost is the whole frame.

    Attributes:
        convention: 'macs' or 'paper', to be shown beside every figure from this table.
        actions: GFLOPs of each action on top of the policy's: 0 for a skip, and for the lowest
            resolution if the policy's own features serve it. The efficiency loss uses these.
        policy: GFLOPs of the policy's feature extractor, with its classifier if it has one.
        lstm: GFLOPs of an LSTM step with the decision head.
        policy_visits: how often the policy runs per frame spent in an action: 1 for a resolution,
            1 / F for "skip F", which covers F frames with one decision.
    """

    convention: str
    actions: tuple[float, ...]
    policy: float
    lstm: float
    policy_visits: tuple[float, ...]

    def per_frame(self, usage: Array) -> Array:
        """Mean GFLOPs of a frame.

        Args:
            usage: [..., A], the share of frames in each action, summing to 1. NumPy or JAX.

        Returns:
            [...], of the kind that `usage` is.
        """
        # Not a matrix product: those round to bfloat16 on TPU.
        visits = (usage * np.asarray(self.policy_visits)).sum(-1)
        costs = (usage * np.asarray(self.actions)).sum(-1)
        return costs + (self.policy + self.lstm) * visits

    def per_video(self, usage: Array, num_frames: int | Array) -> Array:
        """GFLOPs of a video: `per_frame(usage)` times its number of frames, an int or [...]."""
        return self.per_frame(usage) * num_frames


def ar_net_cost_table(
    resolutions: Sequence[int],
    backbones: Sequence[str],
    skips: Sequence[int],
    policy_backbone: str,
    policy_resolution: int,
    policy_is_action: bool,
    hidden_size: int,
    num_classes: int,
    convention: str,
    padding: str = "same",
) -> CostTable:
    """Costs of AR-Net; those of the random policy are the same.

    Every classifier is counted on its backbone's features, that of the lowest resolution too when
    a model puts it on the LSTM's hidden state; the paper's figures do so.

    Args:
        resolutions: side lengths in pixels, descending.
        backbones: one for each resolution that the policy does not serve itself.
        skips: numbers of frames that the skip actions cover.
        policy_backbone: feature extractor of the policy.
        policy_resolution: side length of the frames it sees.
        policy_is_action: the policy's features also serve the lowest resolution.
        hidden_size: of the LSTM.
        num_classes: of every classifier.
        convention: 'macs' or 'paper'.
        padding: rule of the EfficientNets' convolutions.

    Raises:
        UserError: an unknown name, or not one backbone for each resolution to be served.
    """
    served = list(resolutions[:-1] if policy_is_action else resolutions)
    _check_one_each(served, backbones)
    costs = [
        frame_gflops(name, resolution, num_classes, convention, padding)
        for name, resolution in zip(backbones, served, strict=True)
    ]
    num_actions = len(resolutions) + len(skips)
    classes = num_classes if policy_is_action else 0
    return CostTable(
        convention=convention,
        actions=tuple(costs) + (0.0,) * (num_actions - len(costs)),
        policy=frame_gflops(policy_backbone, policy_resolution, classes, convention, padding),
        lstm=lstm_gflops(feature_dim(policy_backbone), hidden_size, num_actions, convention),
        policy_visits=(1.0,) * len(resolutions) + tuple(1.0 / skip for skip in skips),
    )


def uniform_cost_table(
    backbone: str, resolution: int, num_classes: int, convention: str, padding: str = "same"
) -> CostTable:
    """Costs of one backbone on every frame. Args as in `ar_net_cost_table`."""
    return _whole_frame(
        convention, frame_gflops(backbone, resolution, num_classes, convention, padding)
    )


def lstm_cost_table(
    backbone: str,
    resolution: int,
    hidden_size: int,
    num_classes: int,
    convention: str,
    padding: str = "same",
) -> CostTable:
    """Costs of one backbone and an LSTM on every frame. Args as in `ar_net_cost_table`."""
    cost = frame_gflops(backbone, resolution, num_classes, convention, padding)
    cost += lstm_gflops(feature_dim(backbone), hidden_size, 0, convention)
    return _whole_frame(convention, cost)


def multi_scale_cost_table(
    resolutions: Sequence[int],
    backbones: Sequence[str],
    policy_backbone: str,
    policy_is_action: bool,
    hidden_size: int,
    num_classes: int,
    convention: str,
    padding: str = "same",
) -> CostTable:
    """Costs of every resolution on every frame.

    If the policy's extractor serves the lowest resolution it counts with an LSTM step, as in the
    released model (and in the paper's 110.4 GFLOPs per video), though without a decision head.
    Args and errors as in `ar_net_cost_table`.
    """
    served = list(resolutions[:-1] if policy_is_action else resolutions)
    _check_one_each(served, backbones)
    cost = sum(
        frame_gflops(name, resolution, num_classes, convention, padding)
        for name, resolution in zip(backbones, served, strict=True)
    )
    if policy_is_action:
        cost += frame_gflops(policy_backbone, resolutions[-1], num_classes, convention, padding)
        cost += lstm_gflops(feature_dim(policy_backbone), hidden_size, 0, convention)
    return _whole_frame(convention, cost)


def _whole_frame(convention: str, cost: float) -> CostTable:
    return CostTable(convention, actions=(cost,), policy=0.0, lstm=0.0, policy_visits=(1.0,))


def _check_one_each(resolutions: Sequence[int], backbones: Sequence[str]) -> None:
    if len(resolutions) != len(backbones):
        raise UserError(
            f"backbones has {len(backbones)} entries ({', '.join(backbones) or 'none'}): give one "
            f"for each resolution that the policy does not serve, {len(resolutions)} in all."
        )
