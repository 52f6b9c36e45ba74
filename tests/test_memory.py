"""What is remembered of a video, and attention to it, against plain NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.modules.memory import Memory, attend, position_encoding, spread_places


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_places_are_the_middles_of_equal_parts(slots: int) -> None:
    counts = np.arange(1, 21)
    places, used = (np.asarray(x) for x in spread_places(jnp.asarray(counts), slots))
    for count, row, counted in zip(counts, places, used):
        parts = min(count, slots)
        assert counted.tolist() == [j < parts for j in range(slots)]
        assert row[:parts].tolist() == [math.floor((j + 0.5) * count / parts) for j in range(parts)]
        assert len(set(row[:parts])) == parts
        assert 0 <= row.min() and row.max() < count, "no slot points at padding"


def test_encoding_is_that_of_the_paper_on_attention() -> None:
    found = position_encoding(5, 6)
    for position in range(5):
        for i in range(3):
            angle = position / 10_000 ** (2 * i / 6)
            assert found[position, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[position, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_attention_averages_used_slots_by_the_softmax_of_products() -> None:
    rng = np.random.default_rng(0)
    slots, query = rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 5))
    used = np.array([[True] * 4, [True, False, True, False], [True, False, False, False]])
    found = jax.jit(attend)(np.float32(query), Memory(np.float32(slots), used))
    for video in range(3):
        kept = slots[video, used[video]]
        weights = np.exp(kept @ query[video])
        expected = (weights / weights.sum()) @ kept
        np.testing.assert_allclose(found[video], expected, atol=1e-5)
