"""REINFORCE against enumeration, a loop and scipy's densities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.methods import build, get
from ar_net_jax.ops.actions import Choices, apply_skips, in_random_order
from ar_net_jax.ops.reinforce import (
    discounted_returns,
    gaussian_log_probability,
    policy_gradient_loss,
)


def test_gradient_of_two_steps_is_that_of_the_expected_reward() -> None:
    """Weighted by their probabilities, the estimates of all outcomes sum to the exact gradient."""
    logits = jnp.array([[0.3, -0.2, 0.5], [-0.4, 0.1, 0.0]])
    worth = np.random.default_rng(0).normal(size=(3, 3))

    def log_probability(logits: jax.Array, outcome: tuple[int, ...]) -> jax.Array:
        logs = jax.nn.log_softmax(logits)
        return logs[0, outcome[0]] + logs[1, outcome[1]]

    outcomes = list(itertools.product(range(3), range(3)))

    def expected(logits: jax.Array) -> jax.Array:
        return sum(jnp.exp(log_probability(logits, o)) * worth[o] for o in outcomes)

    def estimate(outcome: tuple[int, ...]) -> jax.Array:
        # Any baseline leaves the expectation as it is.
        return jax.grad(
            lambda x: policy_gradient_loss(log_probability(x, outcome)[None], worth[outcome] - 0.7)
        )(logits)

    mean = sum(np.exp(log_probability(logits, o)) * estimate(o) for o in outcomes)
    np.testing.assert_allclose(-mean, jax.grad(expected)(logits), atol=1e-6)


def test_returns_sum_discounted_rewards() -> None:
    rewards = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    found = discounted_returns(jnp.asarray(rewards), 0.9)
    for t in range(5):
        expected = sum(0.9**i * rewards[:, t + i] for i in range(5 - t))
        np.testing.assert_allclose(found[:, t], expected, atol=1e-5)


def test_control_leaves_skips_in_one_piece() -> None:
    """So that what a video costs does not change: imposed, a skip covers what follows it."""
    choices = Choices(("a", "b", "skip 1", "skip 3"), {}, skip_lengths=(0, 0, 1, 3))
    actions = np.array([0, 3, 3, 3, 1, 3, 3, 3, 2, 0, 3, 3], np.int32)
    drawn = {tuple(in_random_order(actions, choices, np.random.default_rng(i))) for i in range(99)}
    assert len(drawn) > 50
    orders = np.array(list(drawn))
    np.testing.assert_array_equal(apply_skips(orders, choices)[0], orders)
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.sort(actions))
        np.testing.assert_array_equal(order[-2:], [3, 3])


def test_density_is_the_normal_distribution() -> None:
    stats = pytest.importorskip("scipy.stats")
    x = np.linspace(-1, 2, 7)
    expected = stats.norm(0.4, 0.1).logpdf(x)
    np.testing.assert_allclose(gaussian_log_probability(x, 0.4, 0.01), expected, rtol=1e-5)


def test_control_spends_as_much_at_other_places() -> None:
    scsampler = get("scsampler")
    method = build("scsampler", scsampler.Config())
    actions = np.array([[0, 1, 1, 1, 0, -1], [1, 0, 0, 0, 1, 1]], np.int32)
    draws = [method.control_actions(actions, np.random.default_rng(i)) for i in range(50)]
    for drawn in draws:
        np.testing.assert_array_equal(drawn < 0, actions < 0)
        np.testing.assert_array_equal(np.sort(drawn, axis=1), np.sort(actions, axis=1))
    np.testing.assert_allclose(np.mean([d[0, :5] == 0 for d in draws], axis=0), 0.4, atol=0.2)
