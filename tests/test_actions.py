"""The action space, and skips against a plain simulation of the released counter."""

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from ar_net_jax.ops.actions import ActionSpace, advance_skip, apply_skips

# One shape for all examples, so that the scan is compiled once for each space.
VIDEOS, FRAMES = 4, 9
SPACES = (
    ActionSpace((224, 168, 112, 84), (1, 2, 4)),
    ActionSpace((84,), (3,)),
    ActionSpace((32, 16), ()),
    ActionSpace((16,), (2, 20)),
)
_apply = jax.jit(apply_skips, static_argnums=1)


def _simulate(proposals: list[int], space: ActionSpace) -> tuple[list[int], list[bool]]:
    """One video, written as the sentence in the paper reads: walk on, jump over what is skipped."""
    actions, covered = [], []
    t = 0
    while t < len(proposals):
        action = proposals[t]
        place = action - len(space.resolutions)
        length = space.skips[place] if place >= 0 else 1
        held = min(length, len(proposals) - t)
        actions += [action] * held
        covered += [False] + [True] * (held - 1)
        t += held
    return actions, covered


@hypothesis.given(data=st.data(), space=st.sampled_from(SPACES))
def test_skips_agree_with_a_plain_simulation(data: st.DataObject, space: ActionSpace) -> None:
    one = st.lists(st.integers(0, space.num_actions - 1), min_size=FRAMES, max_size=FRAMES)
    proposals = data.draw(st.lists(one, min_size=VIDEOS, max_size=VIDEOS))
    actions, covered = _apply(np.array(proposals, np.int32), space)
    expected = [_simulate(row, space) for row in proposals]
    np.testing.assert_array_equal(actions, [a for a, _ in expected])
    np.testing.assert_array_equal(covered, [c for _, c in expected])
    assert actions.dtype == np.int32 and covered.dtype == bool


def test_a_skip_cut_off_by_the_end_covers_what_is_left() -> None:
    space = ActionSpace((224,), (1, 2, 4))
    actions, covered = apply_skips(np.array([[0, 1, 0, 3, 0]], np.int32), space)
    assert actions.tolist() == [[0, 1, 0, 3, 3]], "skip 1 covers no further frame"
    assert covered.tolist() == [[False, False, False, False, True]]


def test_the_skip_counter_ignores_what_is_proposed_on_covered_frames() -> None:
    covered, remaining = advance_skip(np.array([0, 0, 1, 3]), np.array([0, 4, 4, 0]))
    assert covered.tolist() == [False, False, True, True]
    assert remaining.tolist() == [0, 3, 0, 2]


def test_actions_are_resolutions_then_skips() -> None:
    space = SPACES[0]
    assert (space.num_resolutions, space.num_actions) == (4, 7)
    assert space.names == ("224px", "168px", "112px", "84px", "skip 1", "skip 2", "skip 4")
    assert space.skip_lengths.tolist() == [0, 0, 0, 0, 1, 2, 4]
    assert space.policy_visits == pytest.approx((1, 1, 1, 1, 1, 1 / 2, 1 / 4))
