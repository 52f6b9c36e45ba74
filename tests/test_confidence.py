"""Which videos end where, by thresholds on confidence."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ar_net_jax.ops.confidence import at_steps, confidence, exit_thresholds


def _ends(confidences: np.ndarray, thresholds: tuple[float, ...]) -> np.ndarray:
    """The step at which each video ends, by going through them one by one."""
    steps = [
        next(t for t in range(len(row)) if row[t] >= thresholds[t]) for row in confidences.tolist()
    ]
    return np.array(steps)


@given(growth=st.floats(0.3, 4.0), videos=st.integers(1, 60), seed=st.integers(0, 99))
def test_thresholds_end_the_wanted_share_of_videos_at_each_step(
    growth: float, videos: int, seed: int
) -> None:
    confidences = np.random.default_rng(seed).random((videos, 5))
    thresholds = exit_thresholds(confidences, growth)
    ended = np.bincount(_ends(confidences, thresholds), minlength=5)
    shares = growth ** np.arange(1, 6)
    wanted = np.floor(videos * shares / shares.sum() + 1e-9)
    np.testing.assert_array_equal(ended[:-1], wanted[:-1])
    assert ended.sum() == videos, "whatever is left ends at the last step"


def test_the_most_confident_of_those_still_there_end_first() -> None:
    confidences = np.array([[0.9, 0.1, 0.1], [0.5, 0.2, 0.1], [0.4, 0.95, 0.1]])
    assert exit_thresholds(confidences, 1.0) == (0.9, 0.95, 0.0)


def test_thresholds_of_more_steps_are_the_last_one_and_the_last_step_ends_nothing() -> None:
    np.testing.assert_allclose(at_steps((0.5, 0.7), 4)[:-1], [0.5, 0.7, 0.7])
    assert at_steps((0.5,), 1)[-1] > 1


def test_confidence_is_the_largest_probability() -> None:
    logits = np.log(np.float32([[0.2, 0.7, 0.1], [0.25, 0.25, 0.5]]))
    np.testing.assert_allclose(confidence(logits), [0.7, 0.5], rtol=1e-6)
