"""Brings a row to another's cost by the weight of its efficiency loss, on validation videos."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.05
"""Costs this close count as equal, as a share of the one that is to be met."""
TRIALS = 6
"""Trainings of a row at most."""

# A first guess moves the weight by this power of how much too dear the row is.
_POWER = 2.0
# Weights change by at most this factor while all trials lie on one side.
_LEAP = 16.0


@dataclass(frozen=True)
class Trial:
    """A weight that was tried, and GFLOPs per video on validation that it led to."""

    weight: float
    cost: float


def off_by(trial: Trial, target: float) -> float:
    """How far a trial's cost is from the target, as a share of that."""
    return abs(trial.cost - target) / target


def closest(trials: Sequence[Trial], target: float) -> Trial:
    """The trial that comes nearest to a cost; of equally near ones the first."""
    return min(trials, key=lambda trial: off_by(trial, target))


def next_weight(trials: Sequence[Trial], target: float) -> float | None:
    """The weight to try next, or None where a trial is close enough or no more are allowed.

    The larger the weight, the less is computed, if not exactly: between the nearest trials on both
    sides of the target the logarithm of the weight is interpolated over that of the cost, and where
    all lie on one side it moves on, the further the longer that lasts.

    Args:
        trials: in their order, at least one, with weights above 0.
        target: GFLOPs per video.
    """
    if off_by(closest(trials, target), target) <= TOLERANCE or len(trials) >= TRIALS:
        return None
    dear = [trial for trial in trials if trial.cost > target]
    cheap = [trial for trial in trials if trial.cost <= target]
    if dear and cheap:
        high = min(dear, key=lambda trial: trial.cost)
        low = max(cheap, key=lambda trial: trial.cost)
        share = math.log(high.cost / target) / math.log(high.cost / low.cost)
        # Away from the ends, where a trial would teach nothing.
        share = min(max(share, 0.1), 0.9)
        return high.weight * (low.weight / high.weight) ** share
    last = (
        max(trials, key=lambda trial: trial.weight)
        if dear
        else min(trials, key=lambda trial: trial.weight)
    )
    factor = (last.cost / target) ** (_POWER * len(trials))
    return last.weight * min(max(factor, 1 / _LEAP), _LEAP)
