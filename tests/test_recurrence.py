"""The recurrence over time against an LSTM written out in numpy, in float64."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.modules.recurrence import LSTMCell

INPUTS, HIDDEN = 6, 5
CELL = LSTMCell(INPUTS, HIDDEN)


@functools.cache
def _params() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "kernel_ih": (INPUTS, 4 * HIDDEN),
        "kernel_hh": (HIDDEN, 4 * HIDDEN),
        "bias_ih": (4 * HIDDEN,),
        "bias_hh": (4 * HIDDEN,),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _lstm(params: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """Gates in the order input, forget, cell, output; one video and one frame at a time."""
    p = {name: np.float64(value) for name, value in params.items()}
    states = np.zeros((*features.shape[:2], HIDDEN))
    for video, frames in enumerate(np.float64(features)):
        h, c = np.zeros(HIDDEN), np.zeros(HIDDEN)
        for t, x in enumerate(frames):
            gates = x @ p["kernel_ih"] + p["bias_ih"] + h @ p["kernel_hh"] + p["bias_hh"]
            i, f, g, o = gates.reshape(4, HIDDEN)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(c)
            states[video, t] = h
    return states


def _features(videos: int, frames: int) -> np.ndarray:
    rng = np.random.default_rng(videos * 100 + frames)
    return rng.normal(size=(videos, frames, INPUTS)).astype(np.float32)


@pytest.mark.parametrize(("videos", "frames"), [(1, 1), (3, 1), (1, 7), (4, 9)])
def test_unrolled_over_time_it_is_the_plain_loop(videos: int, frames: int) -> None:
    features = _features(videos, frames)
    found = jax.jit(functools.partial(CELL.apply, method="unroll"))({"params": _params()}, features)
    assert (found.shape, found.dtype) == ((videos, frames, HIDDEN), jnp.float32)
    np.testing.assert_allclose(found, _lstm(_params(), features), atol=2e-6)


def test_its_gradient_is_that_of_the_plain_loop() -> None:
    """Against differences in float64: through time, and to each of the parameters."""
    features = _features(2, 5)
    weights = np.random.default_rng(1).normal(size=(2, 5, HIDDEN))

    def loss(params: Any) -> jax.Array:
        return jnp.sum(CELL.apply({"params": params}, features, method="unroll") * weights)

    gradient = jax.jit(jax.grad(loss))(_params())
    rng = np.random.default_rng(2)
    for name, value in _params().items():
        towards = rng.normal(size=value.shape)
        step = 1e-5
        ahead, behind = (
            np.sum(_lstm(_params() | {name: value + sign * step * towards}, features) * weights)
            for sign in (1, -1)
        )
        slope = (ahead - behind) / (2 * step)
        assert float(np.sum(gradient[name] * towards)) == pytest.approx(slope, rel=1e-4), name


def test_variables_are_made_once_and_keep_their_names() -> None:
    """A scan that made its own would put an axis, or a name, before them."""
    variables = CELL.init(jax.random.key(0), _features(2, 3), method="unroll")
    shapes = jax.tree.map(np.shape, variables)
    assert shapes == {"params": {name: value.shape for name, value in _params().items()}}
