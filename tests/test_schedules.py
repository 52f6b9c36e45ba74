"""Schedules against their closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.ops.gumbel import temperature
from ar_net_jax.training import schedules


def test_step_decays_at_the_released_epochs() -> None:
    schedule = schedules.learning_rate("step", 0.02, 2.5, 50, decay_epochs=(20, 40))
    for epoch in range(51):
        expected = 0.02 * 0.1 ** sum(epoch >= e for e in (20, 40))
        # 2.5 steps an epoch: the step at which the epoch begins, rounded up to a whole one.
        assert float(schedule(math.ceil(epoch * 2.5))) == pytest.approx(expected)
    assert float(schedule(49)) == pytest.approx(0.02)


def test_two_decays_on_one_step_both_count() -> None:
    schedule = schedules.learning_rate("step", 1.0, 0.1, 100, decay_epochs=(20, 21))
    np.testing.assert_allclose([schedule(1), schedule(2)], [1.0, 0.01], rtol=1e-6)


def test_cosine_falls_to_zero_after_the_warmup() -> None:
    schedule = schedules.learning_rate("cosine", 0.5, 10, 10, warmup_epochs=2)
    steps = np.arange(20, 101)
    expected = 0.25 * (1 + np.cos(np.pi * (steps - 20) / 80))
    np.testing.assert_allclose(jax.vmap(schedule)(steps), expected, atol=1e-6)


@pytest.mark.parametrize("kind", schedules.KINDS)
def test_warmup_rises_in_a_line_and_moves_at_once(kind: str) -> None:
    schedule = schedules.learning_rate(kind, 0.3, 5, 10, decay_epochs=(8,), warmup_epochs=2)
    np.testing.assert_allclose(
        [schedule(step) for step in range(10)], 0.03 * np.arange(1, 11), rtol=1e-6
    )


def test_constant_stays() -> None:
    schedule = schedules.learning_rate("constant", 0.3, 7, 3, decay_epochs=(1,))
    np.testing.assert_allclose([schedule(step) for step in (0, 7, 20, 100)], 0.3, rtol=1e-6)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="'linear'.*step"):
        schedules.learning_rate("linear", 0.1, 10, 1)
    with pytest.raises(ValueError, match="has no step"):
        schedules.learning_rate("step", 0.1, 10, 0)


def test_temperature_is_the_papers_exponential() -> None:
    epochs = jnp.arange(51.0)
    expected = 5.0 * np.exp(-0.045 * np.arange(51))
    np.testing.assert_allclose(jax.jit(temperature)(epochs), expected, rtol=1e-6)
    # The fine-tune script starts at .6309, the temperature of epoch 46.
    assert float(temperature(46)) == pytest.approx(0.6309, abs=1e-4)
    assert float(temperature(2, tau0=1.0, rate=-1.0)) == pytest.approx(math.exp(-2))
