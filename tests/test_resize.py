"""Frames made smaller on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.ops.resize import IMAGENET, nearest_indices, prepare_frames

MEAN, STD = map(np.array, IMAGENET)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [168, 112, 84, 224])
def test_nearest_follows_the_released_index_rule(size: int) -> None:
    frames = RNG.integers(0, 256, (1, 224, 224, 3), np.uint8)
    source = np.array([int(np.floor(i * 224 / size)) for i in range(size)])
    np.testing.assert_array_equal(nearest_indices(224, size), source)
    expected = (frames[:, source][:, :, source] / 255.0 - MEAN) / STD
    got = prepare_frames(frames, size)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_antialias_is_a_triangle_filter_over_the_footprint() -> None:
    """Halving: each result weighs the four pixels around its centre 1, 3, 3, 1 eighths."""
    frames = RNG.integers(0, 256, (2, 8, 8, 3), np.uint8)
    got = np.asarray(prepare_frames(frames, 4, "antialias")) * STD + MEAN
    inner = np.array([1, 3, 3, 1]) / 8
    weights = np.zeros((4, 8))
    for i in range(4):
        for offset, weight in zip(range(-1, 3), inner):
            if 0 <= 2 * i + offset < 8:
                weights[i, 2 * i + offset] = weight
    weights /= weights.sum(1, keepdims=True)
    expected = np.einsum("ia,nabc,jb->nijc", weights, frames / 255.0, weights)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    library = jax.image.resize(jnp.float32(frames), (2, 4, 4, 3), "linear") / 255.0
    np.testing.assert_allclose(got, library, atol=1e-5)
