"""The search for a weight that brings a row to another's cost."""

import math
from collections.abc import Callable

import hypothesis
import hypothesis.strategies as st
import pytest

from ar_net_jax.compare.search import (
    TOLERANCE,
    TRIALS,
    Trial,
    closest,
    next_weight,
    off_by,
)


def _search(cost_of: Callable[[float], float], start: float, target: float) -> list[Trial]:
    trials = [Trial(start, cost_of(start))]
    while (weight := next_weight(trials, target)) is not None:
        trials.append(Trial(weight, cost_of(weight)))
    return trials


@hypothesis.given(
    steepness=st.floats(0.3, 1.0),
    centre=st.floats(-1.5, 1.5),
    share=st.floats(0.25, 0.8),
)
def test_it_finds_the_cost_of_a_falling_curve(
    steepness: float, centre: float, share: float
) -> None:
    """Cost falls from 1 to .1 along a logistic curve of the logarithm of the weight."""

    def cost_of(weight: float) -> float:
        return 0.1 + 0.9 / (1 + math.exp(steepness * (math.log(weight / 70) - centre)))

    trials = _search(cost_of, 70.0, share)
    assert len(trials) <= TRIALS
    assert off_by(closest(trials, share), share) <= TOLERANCE


def test_it_stops_at_once_where_the_cost_is_met() -> None:
    assert next_weight([Trial(70.0, 1.04)], 1.0) is None
    assert next_weight([Trial(70.0, 1.06)], 1.0) is not None


def test_it_gives_up_where_the_weight_changes_nothing() -> None:
    trials = _search(lambda weight: 2.0, 1.0, 1.0)
    assert len(trials) == TRIALS
    weights = [trial.weight for trial in trials]
    # Dearer than wanted: ever larger weights, by ever larger steps.
    steps = [b / a for a, b in zip(weights, weights[1:])]
    assert all(b >= a > 1 for a, b in zip(steps, steps[1:]))


def test_between_two_trials_it_stays_inside() -> None:
    weight = next_weight([Trial(1.0, 2.0), Trial(100.0, 0.5)], 1.0)
    # Half of the way of the logarithm of the cost.
    assert weight == pytest.approx(10.0)
