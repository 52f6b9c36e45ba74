"""Which frames are taken, against loops in plain NumPy, and expectations, against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ar_net_jax.ops.frame_sampling import (
    expected_average,
    spread_frames,
    take_frames,
    weighted_frames,
)
from ar_net_jax.ops.gumbel import gumbel_noise

_spread = jax.jit(spread_frames, static_argnums=1)
_expected = jax.jit(expected_average, static_argnums=3)
_weighted = jax.jit(weighted_frames, static_argnums=2)


@pytest.mark.parametrize(
    ("length", "count", "expected"),
    [
        (48, 16, list(range(1, 48, 3))),
        (8, 4, [1, 3, 5, 7]),
        (5, 2, [1, 3]),
        (3, 3, [0, 1, 2]),
        (2, 4, [0, 1]),
    ],
)
def test_frames_are_spread_evenly(length: int, count: int, expected: list[int]) -> None:
    index, there = _spread(jnp.array([length]), count)
    assert index[0, : len(expected)].tolist() == expected
    assert there[0].tolist() == [True] * len(expected) + [False] * (count - len(expected))


def _by_hand(weights: np.ndarray, length: int, count: int) -> list[int]:
    """Frame by frame: the density of each part is constant, taken frames give way to the next."""
    parts, count = min(length, len(weights)), min(length, count)
    edges = np.concatenate([[0], np.cumsum(weights[:parts])])
    taken: list[int] = []
    for k in range(count):
        wanted = (k + 0.5) / count
        part = min(int(np.sum(edges[1:] < wanted)), parts - 1)
        within = (wanted - edges[part]) / (edges[part + 1] - edges[part])
        index = int(np.floor((part + min(within, 1)) / parts * length))
        index = max(index, taken[-1] + 1) if taken else index
        taken.append(min(index, length - count + k))
    return taken


@settings(max_examples=60)
@given(length=st.integers(1, 12), seed=st.integers(0, 999), sharp=st.sampled_from([0.0, 1.0, 6.0]))
def test_frames_are_dense_where_weights_are_large(length: int, seed: int, sharp: float) -> None:
    logits = np.random.default_rng(seed).normal(size=4) * sharp
    weights = np.where(np.arange(4) < min(length, 4), np.exp(logits), 0)
    weights = (weights / weights.sum()).astype(np.float32)
    index, there = _weighted(weights[None], jnp.array([length]), 5)
    found = index[0][there[0]].tolist()
    expected = _by_hand(weights.astype(np.float64), length, 5)
    assert len(set(found)) == len(found) == min(length, 5) and max(found) < length
    # A place on the border between two frames may round to either.
    assert np.abs(np.array(found) - expected).max() <= 1


def test_equal_weights_are_even_spread_and_one_weight_is_its_part() -> None:
    even, _ = _weighted(np.full((1, 4), 0.25, np.float32), jnp.array([8]), 4)
    assert even[0].tolist() == [1, 3, 5, 7]
    sure, _ = _weighted(np.float32([[0, 0, 1, 0]]), jnp.array([16]), 4)
    assert sure[0].tolist() == [8, 9, 10, 11]
    frames = np.arange(16).reshape(2, 8)
    np.testing.assert_array_equal(
        take_frames(frames, jnp.array([[1, 3], [0, 7]])), [[1, 3], [8, 15]]
    )


def test_the_expected_average_is_that_over_all_orders() -> None:
    """Weights by their chances in draws without replacement, three of four, by enumeration."""
    weights, rows = np.array([0.5, 0.3, 0.15, 0.05]), np.eye(4)
    exact = np.zeros(4)
    for order in itertools.permutations(range(4), 3):
        left, chance = 1.0, 1.0
        for row in order:
            chance, left = chance * weights[row] / left, left - weights[row]
        exact += chance * rows[list(order)].mean(0)
    noise = gumbel_noise(jax.random.split(jax.random.key(0), 1), 20_000, 4)
    found = _expected(rows[None], jnp.array([weights], jnp.float32), noise, 3)
    np.testing.assert_allclose(found[0], exact, atol=4e-3)


def test_its_gradient_favours_rows_that_do_better() -> None:
    """Of one row it is the weight's own: d sum(w x) / dw = x."""
    rows, noise = jnp.array([[[1.0], [3.0]]]), jnp.zeros((1, 2, 2))

    def value(weights: jax.Array) -> jax.Array:
        return expected_average(rows, weights, noise, 1)[0, 0]

    gradient = jax.jit(jax.grad(value))(jnp.array([[0.4, 0.6]]))
    np.testing.assert_allclose(gradient, [[1.0, 3.0]], rtol=1e-6)
