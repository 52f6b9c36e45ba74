"""Frame sampling against golden values and the definition of segments."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ar_net_jax.data.sampling import eval_indices, train_indices

GOLDEN = Path(__file__).parent / "golden" / "eval_indices.npz"


def test_eval_indices_equal_the_released_ones() -> None:
    golden = np.load(GOLDEN)
    for n, expected in zip(golden["num_frames"], golden["indices"], strict=True):
        np.testing.assert_array_equal(eval_indices(int(n), 16), expected)


@given(st.integers(1, 5000), st.integers(1, 40), st.integers(0, 2**31))
def test_train_indices_take_one_frame_of_each_segment(n: int, count: int, seed: int) -> None:
    indices = train_indices(n, count, np.random.default_rng(seed))
    assert indices.shape == (count,) and indices.dtype == np.int32
    length = n // count
    if length:
        np.testing.assert_array_equal(indices // length, np.arange(count))
    else:
        assert indices.tolist() == [*range(n), *[n - 1] * (count - n)]


@given(st.integers(1, 5000), st.integers(1, 40))
def test_eval_indices_ascend_within_the_video(n: int, count: int) -> None:
    indices = eval_indices(n, count)
    assert indices.shape == (count,)
    assert indices[0] >= 0 and indices[-1] < n
    assert (np.diff(indices) >= 0).all()


def test_train_indices_reach_every_frame() -> None:
    rng = np.random.default_rng(0)
    seen = set(np.concatenate([train_indices(48, 16, rng) for _ in range(60)]).tolist())
    assert seen == set(range(48))


@pytest.mark.parametrize("n, count", [(0, 4), (5, 0)])
def test_nothing_to_sample_is_an_error(n: int, count: int) -> None:
    with pytest.raises(ValueError, match="cannot sample"):
        eval_indices(n, count)
    with pytest.raises(ValueError, match="cannot sample"):
        train_indices(n, count, np.random.default_rng(0))
