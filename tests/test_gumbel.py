"""The straight-through Gumbel-Softmax against equations 5 to 8 written out by hand."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from ar_net_jax.ops import gumbel
from ar_net_jax.ops.rng import example_keys

ACTIONS = 5
_sample = jax.jit(gumbel.sample)
_slope_of_squares = jax.jit(jax.grad(lambda z, *args: jnp.sum(gumbel.sample(z, *args) ** 2)))


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _jacobian_of_softmax(s: np.ndarray) -> np.ndarray:
    return np.diag(s) - np.outer(s, s)


def _expected_gradient(
    z: np.ndarray, noise: np.ndarray, tau: float, cotangent: np.ndarray
) -> np.ndarray:
    """d(cotangent . P) / dz with P = softmax((log p + G) / tau), p = softmax(z), by the chain rule.

    dP_i / dlog p_j = P_i (delta_ij - P_j) / tau and dlog p_j / dz_k = delta_jk - p_k.
    """
    p = _softmax(z)
    relaxed = _softmax((np.log(p) + noise) / tau)
    by_log_p = _jacobian_of_softmax(relaxed) / tau
    by_z = np.eye(len(z)) - np.tile(p, (len(z), 1))
    return cotangent @ by_log_p @ by_z


logits = st.lists(st.floats(-4, 4, width=32), min_size=ACTIONS, max_size=ACTIONS)


@hypothesis.given(z=logits, seed=st.integers(0, 10_000), tau=st.sampled_from([0.3, 1.0, 5.0]))
def test_gradient_is_the_closed_form_of_equation_8(z: list[float], seed: int, tau: float) -> None:
    rng = np.random.default_rng(seed)
    noise, cotangent = rng.gumbel(size=ACTIONS), rng.normal(size=ACTIONS)
    z64 = np.array(z, np.float64)
    value, pullback = jax.vjp(
        lambda x: _sample(x, jnp.float32(noise), jnp.float32(tau)), jnp.float32(z64)
    )
    (got,) = pullback(jnp.float32(cotangent))
    np.testing.assert_allclose(
        got, _expected_gradient(z64, noise, tau, cotangent), rtol=2e-3, atol=2e-5
    )
    assert sorted(value.tolist()) == [0.0] * (ACTIONS - 1) + [1.0], "exactly one-hot"
    assert int(jnp.argmax(value)) == int(np.argmax(np.log(_softmax(z64)) + noise)), "eq. 6"


@pytest.mark.parametrize("tau", [1e-30, 1e-6, 0.05, 5.0])
def test_forward_is_exactly_one_hot_at_any_temperature(tau: float) -> None:
    rng = np.random.default_rng(0)
    z = jnp.float32(rng.normal(size=(400, ACTIONS)) * 30)
    noise = jnp.float32(rng.gumbel(size=z.shape))
    value = np.asarray(_sample(z, noise, jnp.float32(tau)))
    assert np.isin(value, (0.0, 1.0)).all()
    np.testing.assert_array_equal(value.sum(-1), 1.0)
    assert np.isfinite(_slope_of_squares(z, noise, jnp.float32(tau))).all()


def test_hopeless_actions_are_clamped_as_released() -> None:
    log_p = jax.jit(gumbel.log_probabilities)(jnp.array([0.0, -100.0]))
    np.testing.assert_allclose(log_p, [0.0, np.log(1e-8)], atol=1e-6)
    slope = jax.jit(jax.grad(lambda z: gumbel.log_probabilities(z)[1]))(jnp.array([0.0, -100.0]))
    assert slope.tolist() == [0.0, 0.0], "a clamped probability passes no gradient"


def test_samples_follow_the_policys_probabilities() -> None:
    count = 20_000
    z = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))
    keys = example_keys(3, jnp.zeros(count, jnp.int32), jnp.arange(count, dtype=jnp.int32))
    noise = gumbel.gumbel_noise(keys, 1, 4)[:, 0]
    shares = np.asarray(_sample(jnp.tile(z, (count, 1)), noise, jnp.float32(2.0))).mean(0)
    # Four standard deviations of a share of one half.
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.15, 0.05], atol=4 * 0.5 / count**0.5)


def test_noise_belongs_to_the_example_not_to_its_place() -> None:
    ids = jnp.array([4, 8, 15, 16], jnp.int32)
    noise_of = functools.partial(gumbel.gumbel_noise, num_frames=3, num_actions=ACTIONS)
    noise = noise_of(example_keys(1, jnp.ones(4, jnp.int32), ids))
    order = np.array([2, 0, 3, 1])
    shuffled = noise_of(example_keys(1, jnp.ones(4, jnp.int32), ids[order]))
    np.testing.assert_array_equal(shuffled, noise[order])
    alone = noise_of(example_keys(1, jnp.ones(1, jnp.int32), ids[2:3]))
    np.testing.assert_array_equal(alone[0], noise[2])
    assert len(np.unique(np.asarray(noise))) == noise.size, "videos, frames, actions all differ"
    next_epoch = noise_of(example_keys(1, jnp.full(4, 2, jnp.int32), ids))
    assert not np.any(next_epoch == noise)


def test_a_longer_video_keeps_the_noise_of_its_first_frames() -> None:
    keys = example_keys(1, jnp.zeros(2, jnp.int32), jnp.arange(2, dtype=jnp.int32))
    short, long = (gumbel.gumbel_noise(keys, frames, ACTIONS) for frames in (3, 6))
    np.testing.assert_array_equal(long[:, :3], short)
