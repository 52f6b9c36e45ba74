"""Equations 9 to 12 against closed forms in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ar_net_jax.config.config import LossConfig

from ar_net_jax.losses import classification_loss, efficiency_loss, total_loss, uniform_loss

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 5)) * 3
LABELS = np.array([[1, 3, -1], [0, -1, -1], [4, -1, -1]], np.int32)
# Usage (1/2, 1/3, 1/6) over two videos of three frames.
ONE_HOT = np.eye(3, dtype=np.float32)[[[0, 1, 0], [2, 1, 0]]]
USAGE = np.array([3, 2, 1]) / 6
GFLOPS = np.array([4.1, 0.5, 0.0])


def _log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_cross_entropy_takes_the_smallest_label() -> None:
    expected = -_log_softmax(LOGITS)[np.arange(3), [1, 0, 4]].mean()
    got = classification_loss(jnp.float32(LOGITS), LABELS)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_binary_cross_entropy_takes_all_labels_and_no_padding() -> None:
    targets = np.zeros((3, 5))
    targets[[0, 0, 1, 2], [1, 3, 0, 4]] = 1
    p = 1 / (1 + np.exp(-LOGITS))
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean()
    got = classification_loss(jnp.float32(LOGITS), LABELS, "binary_cross_entropy")
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_efficiency_is_the_mean_cost_of_a_frame() -> None:
    got = efficiency_loss(ONE_HOT, jnp.float32(GFLOPS))
    np.testing.assert_allclose(got, USAGE @ GFLOPS, rtol=1e-6)


@pytest.mark.parametrize("norm", ["squared", "euclidean"])
def test_uniform_loss_is_the_distance_from_equal_usage(norm: str) -> None:
    squared = np.sum((USAGE - USAGE.mean()) ** 2)
    expected = {"squared": squared, "euclidean": np.sqrt(squared)}[norm]
    np.testing.assert_allclose(uniform_loss(ONE_HOT, norm), expected, rtol=1e-6)


@pytest.mark.parametrize("norm", ["squared", "euclidean"])
def test_gradient_of_the_uniform_loss(norm: str) -> None:
    """d/d one_hot[b, t, a] is 2 (u_a - mean u) / BT; of the norm, half of that over the norm."""
    away = (USAGE - USAGE.mean()) / 6
    expected = 2 * away if norm == "squared" else away / np.linalg.norm(USAGE - USAGE.mean())
    got = jax.grad(uniform_loss)(jnp.asarray(ONE_HOT), norm)
    np.testing.assert_allclose(got, np.broadcast_to(expected, ONE_HOT.shape), atol=1e-6)


@pytest.mark.parametrize("norm", ["squared", "euclidean"])
def test_gradient_is_finite_at_exactly_uniform_usage(norm: str) -> None:
    # Two actions: the usage .5, .5 is exact in float32.
    one_hot = jnp.eye(2)[jnp.array([[0, 1], [1, 0]])]
    value, gradient = jax.value_and_grad(uniform_loss)(one_hot, norm)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize(
    "config, factor, power",
    [
        (LossConfig(), (0.9, 0.1, 0.3), 2),
        # The released script: .95 CE + .05 (cost + 3.0 norm).
        (LossConfig("cross_entropy", 0.95, 0.05, 0.15, "euclidean"), (0.95, 0.05, 0.05 * 3.0), 1),
    ],
    ids=["paper", "released"],
)
def test_equation_12(config: LossConfig, factor: tuple[float, ...], power: int) -> None:
    loss, parts = total_loss(
        config, jnp.float32(LOGITS), LABELS, jnp.asarray(ONE_HOT), jnp.float32(GFLOPS)
    )
    accuracy = -_log_softmax(LOGITS)[np.arange(3), [1, 0, 4]].mean()
    uniform = np.linalg.norm(USAGE - USAGE.mean()) ** power
    expected = np.array([accuracy, USAGE @ GFLOPS, uniform])
    np.testing.assert_allclose(loss, np.array(factor) @ expected, rtol=1e-6)
    got = [parts[name] for name in ("accuracy", "efficiency", "uniform")]
    np.testing.assert_allclose(got, expected, rtol=1e-6)
