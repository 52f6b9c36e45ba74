"""The GRU over frames against one written out in NumPy, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.costs.counting import count_macs
from ar_net_jax.modules.gru import GRUCell
from ar_net_jax.modules.recurrence import cell_macs

INPUTS, HIDDEN = 6, 5
CELL = GRUCell(INPUTS, HIDDEN)
RNG = np.random.default_rng(0)
SHAPES = {
    "kernel_ih": (INPUTS, 3 * HIDDEN),
    "kernel_hh": (HIDDEN, 3 * HIDDEN),
    "bias_ih": (3 * HIDDEN,),
    "bias_hh": (3 * HIDDEN,),
}
PARAMS = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gru_step(p: dict[str, np.ndarray], h: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Gates in the order reset, update, new; the reset gate acts on the product, bias included."""
    ours, theirs = x @ p["kernel_ih"] + p["bias_ih"], h @ p["kernel_hh"] + p["bias_hh"]
    (r, z, n), (hr, hz, hn) = ours.reshape(3, -1), theirs.reshape(3, -1)
    z, n = _sigmoid(z + hz), np.tanh(n + _sigmoid(r + hr) * hn)
    return (1 - z) * n + z * h


def test_unrolled_over_time_it_is_the_plain_loop_over_selected_frames() -> None:
    features = RNG.normal(size=(3, 7, INPUTS)).astype(np.float32)
    hidden = RNG.normal(size=(3, HIDDEN)).astype(np.float32)
    selected = RNG.random((3, 7)) < 0.6
    selected[0] = True
    run = jax.jit(functools.partial(CELL.apply, method="unroll"))
    states, last = run({"params": PARAMS}, features, hidden, selected)
    assert (states.shape, states.dtype) == ((3, 7, HIDDEN), jnp.float32)
    for video in range(3):
        h = np.float64(hidden[video])
        for t in range(7):
            h = gru_step(PARAMS, h, np.float64(features[video, t])) if selected[video, t] else h
            np.testing.assert_allclose(states[video, t], h, atol=2e-6)
        np.testing.assert_array_equal(last[video], states[video, -1])


def test_its_cost_is_that_of_its_products() -> None:
    def run(features: jax.Array, hidden: jax.Array) -> jax.Array:
        selected = jnp.ones((1, 3), bool)
        return CELL.apply({"params": PARAMS}, features, hidden, selected, method="unroll")[0]

    shapes = jax.ShapeDtypeStruct((1, 3, INPUTS), jnp.float32), jnp.zeros((1, HIDDEN))
    assert count_macs(run, *shapes) == 3 * cell_macs(INPUTS, HIDDEN, gates=3)
