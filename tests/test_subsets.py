"""Sets of frames: how likely each is, and how they are drawn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.ops.reinforce import policy_gradient_loss
from ar_net_jax.ops.subsets import members, random_segments, set_log_probability, top_set

_log_probability = jax.jit(set_log_probability)


def _enumerated(p: np.ndarray, chosen: tuple[int, ...]) -> float:
    """The probability of a set as published: a sum over all orders of drawing it."""
    total = 0.0
    for order in itertools.permutations(chosen):
        left, product = 1.0, 1.0
        for frame in order:
            product *= p[frame] / left
            left -= p[frame]
        total += product
    return total


@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_sets_probability_is_the_sum_over_all_orders(count: int) -> None:
    rng = np.random.default_rng(count)
    p = rng.dirichlet(np.ones(7), 4)
    places = np.stack([rng.permutation(7)[:count] for _ in range(4)])
    found = _log_probability(np.log(p).astype(np.float32), places)
    expected = [np.log(_enumerated(*pair)) for pair in zip(p, places.tolist())]
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_all_sets_of_a_size_share_one_probability_among_them() -> None:
    p = np.random.default_rng(1).dirichlet(np.full(7, 0.3)).astype(np.float32)
    sets = np.array(list(itertools.combinations(range(7), 3)))
    found = _log_probability(np.tile(np.log(p), (len(sets), 1)), sets)
    assert np.exp(found).sum() == pytest.approx(1.0, abs=1e-5)
    everything = _log_probability(np.log(p[None]), np.arange(7)[None])
    assert float(everything[0]) == pytest.approx(0.0, abs=1e-5)


def test_near_certainty_neither_cancels_nor_overflows() -> None:
    """1 - p in float32 would be 0 after the first frame; to draw the second is then a coin."""
    logits = jnp.array([[40.0, 0.0, 0.0, -60.0]])

    @jax.jit
    @jax.value_and_grad
    def of(logits: jax.Array) -> jax.Array:
        return set_log_probability(jax.nn.log_softmax(logits), jnp.array([[0, 1]]))[0]

    value, slope = of(logits)
    assert float(value) == pytest.approx(np.log(0.5), abs=1e-5)
    np.testing.assert_allclose(slope, [[0, 0.5, -0.5, 0]], atol=1e-5)


def test_the_policy_gradient_over_all_sets_is_that_of_the_expected_reward() -> None:
    logits = jnp.array([0.5, -0.3, 0.1, 0.9])
    sets = np.array(list(itertools.combinations(range(4), 2)))
    worth = np.random.default_rng(0).normal(size=len(sets)).astype(np.float32)

    @jax.jit
    @jax.grad
    def gradient(logits: jax.Array) -> jax.Array:
        rows = jnp.tile(jax.nn.log_softmax(logits), (len(sets), 1))
        log_p = set_log_probability(rows, sets)
        # As many videos as sets, each with its own; a mean weighs each by its probability.
        weight = jnp.exp(log_p) * len(sets)
        return -policy_gradient_loss(log_p, weight * worth)

    def numeric(logits: np.ndarray) -> float:
        p = np.exp(logits) / np.exp(logits).sum()
        return sum(_enumerated(p, tuple(s)) * w for s, w in zip(sets.tolist(), worth))

    found = gradient(logits)
    steps, start = 1e-5 * np.eye(4), np.asarray(logits, np.float64)
    expected = [(numeric(start + d) - numeric(start - d)) / 2e-5 for d in steps]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gumbel_noise_draws_sets_as_often_as_they_are_likely() -> None:
    p = np.array([0.5, 0.3, 0.15, 0.05])

    @jax.jit
    def draw() -> jax.Array:
        noise = jax.random.gumbel(jax.random.key(0), (20_000, 4))
        return members(top_set(jnp.log(p) + noise, 2), 4)

    drawn = np.asarray(draw())
    sets = list(itertools.combinations(range(4), 2))
    share = [np.mean(drawn[:, a] & drawn[:, b]) for a, b in sets]
    expected = [_enumerated(p, pair) for pair in sets]
    np.testing.assert_allclose(share, expected, atol=0.012)


def test_a_random_set_has_one_frame_of_each_stretch() -> None:
    drawn = np.asarray(random_segments(jax.random.split(jax.random.key(0), 400), 7, 3))
    stretches = ({0, 1}, {2, 3}, {4, 5, 6})
    assert tuple(set(column.tolist()) for column in drawn.T) == stretches
    keys = jax.random.split(jax.random.key(1), 2)
    np.testing.assert_array_equal(random_segments(keys, 3, 5), [[0, 1, 2]] * 2)
