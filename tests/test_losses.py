"""The losses against closed forms in float64, one by one and as a stage sums them."""

import dataclasses
import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.losses import (
    Accuracy,
    Efficiency,
    Loss,
    LossContext,
    Reinforce,
    Separate,
    Uniform,
    classification_loss,
    in_order,
)
from ar_net_jax.methods import Choices, Method, Moment, Network, StageConfig
from ar_net_jax.methods.ar_net import ARNet
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.training.stage_loss import StageLoss

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 5)) * 3
LABELS = np.array([[1, 3, -1], [0, -1, -1], [4, -1, -1]], np.int32)
# Usage (1/2, 1/3, 1/6) over two videos of three frames.
ONE_HOT = np.eye(3, dtype=np.float32)[[[0, 1, 0], [2, 1, 0]]]
USAGE = np.array([3, 2, 1]) / 6
GFLOPS = np.array([4.1, 0.5, 0.0])
CONTEXT = LossContext(jnp.asarray(LABELS), jnp.float32(GFLOPS))


def _log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _cross_entropy(logits: np.ndarray) -> float:
    return float(-_log_softmax(logits)[np.arange(3), [1, 0, 4]].mean())


def _decided(one_hot: np.ndarray | jax.Array) -> Prediction:
    return Prediction(jnp.float32(LOGITS), {}, {}, decisions=Decisions(jnp.asarray(one_hot)))


# --- One by one ---------------------------------------------------------------------------------


def test_cross_entropy_takes_the_smallest_label() -> None:
    got = classification_loss(jnp.float32(LOGITS), LABELS)
    np.testing.assert_allclose(got, _cross_entropy(LOGITS), rtol=1e-6)
    np.testing.assert_allclose(Accuracy()(_decided(ONE_HOT), CONTEXT), got)


def test_binary_cross_entropy_takes_all_labels_and_no_padding() -> None:
    targets = np.zeros((3, 5))
    targets[[0, 0, 1, 2], [1, 3, 0, 4]] = 1
    p = 1 / (1 + np.exp(-LOGITS))
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean()
    got = classification_loss(jnp.float32(LOGITS), LABELS, "binary_cross_entropy")
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    loss = Accuracy(target="binary_cross_entropy")
    np.testing.assert_allclose(loss(_decided(ONE_HOT), CONTEXT), expected, rtol=1e-6)


def test_efficiency_is_the_mean_cost_of_a_frame() -> None:
    got, gradient = jax.value_and_grad(lambda x: Efficiency()(_decided(x), CONTEXT))(
        jnp.asarray(ONE_HOT)
    )
    np.testing.assert_allclose(got, USAGE @ GFLOPS, rtol=1e-6)
    np.testing.assert_allclose(gradient, np.broadcast_to(GFLOPS / 6, ONE_HOT.shape), rtol=1e-6)


def _uniform(one_hot: jax.Array, norm: str, usage: jax.Array | None = None) -> jax.Array:
    context = dataclasses.replace(CONTEXT, batch_usage=usage)
    return Uniform(norm=norm)(_decided(one_hot), context)


@pytest.mark.parametrize("norm", ["squared", "euclidean"])
def test_uniform_loss_is_the_distance_from_equal_usage(norm: str) -> None:
    squared = np.sum((USAGE - USAGE.mean()) ** 2)
    expected = {"squared": squared, "euclidean": np.sqrt(squared)}[norm]
    np.testing.assert_allclose(_uniform(ONE_HOT, norm), expected, rtol=1e-6)


@pytest.mark.parametrize("norm", ["squared", "euclidean"])
def test_gradient_of_the_uniform_loss(norm: str) -> None:
    """d/d one_hot[b, t, a] is 2 (u_a - mean u) / BT; of the norm, half of that over the norm."""
    away = (USAGE - USAGE.mean()) / 6
    expected = 2 * away if norm == "squared" else away / np.linalg.norm(USAGE - USAGE.mean())
    got = jax.grad(_uniform)(jnp.asarray(ONE_HOT), norm)
    np.testing.assert_allclose(got, np.broadcast_to(expected, ONE_HOT.shape), atol=1e-6)


@pytest.mark.parametrize("norm", ["squared", "euclidean"])
def test_parts_that_know_the_usage_of_the_batch_sum_up_to_it(norm: str) -> None:
    """Value: that of the whole. Gradient: its mean over the parts is that of the whole."""
    value_and_grad = jax.value_and_grad(_uniform)
    whole, gradient = value_and_grad(jnp.asarray(ONE_HOT), norm)
    for part in range(2):
        rows = slice(part, part + 1)
        value, own = value_and_grad(jnp.asarray(ONE_HOT[rows]), norm, jnp.float32(USAGE))
        np.testing.assert_allclose(value, whole, rtol=1e-6)
        np.testing.assert_allclose(own / 2, gradient[rows], atol=1e-6)


@pytest.mark.parametrize("norm", ["squared", "euclidean"])
def test_gradient_is_finite_at_exactly_uniform_usage(norm: str) -> None:
    # Two actions: the usage .5, .5 is exact in float32.
    one_hot = jnp.eye(2)[jnp.array([[0, 1], [1, 0]])]
    value, gradient = jax.value_and_grad(_uniform)(one_hot, norm)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("target", ["cross_entropy", "binary_cross_entropy"])
def test_separate_is_the_sum_of_the_networks_own_losses(target: str) -> None:
    logits = {name: jnp.float32(RNG.normal(size=(3, 5))) for name in ("backbone_0", "policy")}
    loss = Separate(target=target)
    prediction = Prediction(jnp.zeros(()), {}, {}, network_logits=logits)
    found = loss.by_network(prediction, CONTEXT)
    expected = {name: classification_loss(own, LABELS, target) for name, own in logits.items()}
    assert found == pytest.approx({name: float(value) for name, value in expected.items()})
    total = sum(float(value) for value in expected.values())
    assert float(loss(prediction, CONTEXT)) == pytest.approx(total, rel=1e-6)


def test_losses_on_decisions_refuse_a_prediction_without() -> None:
    bare = Prediction(jnp.float32(LOGITS), {}, {})
    for loss in (Efficiency(), Uniform()):
        with pytest.raises(ValueError, match="acts on decisions"):
            loss(bare, CONTEXT)


# --- Reinforce ----------------------------------------------------------------------------------


def _reinforce(
    theta: jax.Array, arm: jax.Array, reward: jax.Array, baseline: jax.Array
) -> jax.Array:
    outputs = {
        "log_probability": jax.nn.log_softmax(theta)[arm],
        "reward": reward[arm],
        "baseline": baseline,
    }
    return Reinforce()(Prediction(jnp.zeros(()), {}, {}, outputs=outputs), CONTEXT)


@pytest.mark.parametrize("baseline", [0.0, 1.3])
def test_reinforce_climbs_the_expected_reward_of_a_two_armed_bandit(baseline: float) -> None:
    """Its gradient over both arms, by their probabilities, is that of the expected reward.

    With p = softmax(theta): d E[r] / d theta_0 = p_0 p_1 (r_0 - r_1), whatever the baseline.
    """
    theta, reward = np.array([0.3, -0.5]), np.array([2.0, -1.0])
    p = np.exp(_log_softmax(theta))
    slope = p[0] * p[1] * (reward[0] - reward[1])
    # Draws in exact proportion, so that the mean over them is the expectation.
    counts = np.round(p * 10_000).astype(int)
    arms = jnp.asarray(np.repeat([0, 1], counts))
    gradient = jax.grad(_reinforce)(
        jnp.float32(theta), arms, jnp.float32(reward), jnp.full(arms.shape, baseline)
    )
    np.testing.assert_allclose(-gradient, [slope, -slope], rtol=1e-3)


def test_reinforce_has_no_gradient_through_reward_or_baseline() -> None:
    arms = jnp.array([0, 1, 1])
    by_reward, by_baseline = jax.grad(_reinforce, argnums=(2, 3))(
        jnp.zeros(2), arms, jnp.array([2.0, -1.0]), jnp.ones(3)
    )
    assert not by_reward.any() and not by_baseline.any()


def test_a_baseline_makes_the_gradient_less_noisy() -> None:
    gradient = jax.vmap(jax.grad(_reinforce), in_axes=(None, 0, None, None))
    arms = jax.random.bernoulli(jax.random.key(0), 0.5, (200, 1)).astype(jnp.int32)
    spreads = [
        np.std(gradient(jnp.zeros(2), arms, jnp.array([6.0, 5.0]), jnp.full(1, baseline)))
        for baseline in (0.0, 5.5)
    ]
    assert spreads[1] < spreads[0] / 5


# --- As a stage sums them -----------------------------------------------------------------------


class _Constant(nn.Module):
    """Gives a prediction that is known beforehand."""

    def __call__(self, frames: jax.Array, mode: object, **_: object) -> Prediction:
        return dataclasses.replace(
            _decided(ONE_HOT),
            network_logits={"backbone_0": jnp.float32(LOGITS), "policy": jnp.float32(-LOGITS)},
        )


class _Known(Method[ModelConfig]):
    """A method of three choices with known costs."""

    name, title, Config = "known", "Known", ModelConfig
    provides = frozenset({"decisions", "network_logits"})

    def module(self) -> nn.Module:
        """Gives a known prediction."""
        return _Constant()

    def networks(self) -> dict[str, Network]:
        """None: costs are given."""
        return {}

    @property
    def choices(self) -> Choices:
        """Three."""
        return Choices(("a", "b", "c"), {})

    def choice_gflops(self, convention: object = None, **kwargs: bool) -> np.ndarray:
        """Known costs, if asked for as eq. 10 has them."""
        assert kwargs == {"overhead": False}
        return GFLOPS


@pytest.mark.parametrize(
    ("losses", "factors"),
    [
        (ARNet.usual_losses("joint"), {"accuracy": 0.9, "efficiency": 0.1, "uniform": 0.3}),
        # The released script: .95 CE + .05 (cost + 3.0 norm).
        (
            {
                "uniform": Uniform(0.15, "euclidean"),
                "accuracy": Accuracy(0.95),
                "efficiency": Efficiency(0.05),
            },
            {"accuracy": 0.95, "efficiency": 0.05, "uniform": 0.05 * 3.0},
        ),
        (
            {"accuracy": Accuracy(0.9), "separate": Separate(0.5)},
            {"accuracy": 0.9, "separate": 0.5},
        ),
        ({"accuracy": Accuracy()}, {"accuracy": 1.0}),
    ],
    ids=["paper", "released", "separate beside it", "baseline"],
)
def test_equation_12(losses: Mapping[str, Loss], factors: dict[str, float]) -> None:
    stage = StageConfig(losses=losses)
    batch = {
        "frames": jnp.zeros((3, 2, 8, 8, 3), jnp.uint8),
        "labels": LABELS,
        "epoch": jnp.zeros(3, jnp.int32),
        "example_id": jnp.arange(3),
    }
    moment = Moment(jnp.int32(0), jnp.float32(0))
    loss = StageLoss(_Known(ModelConfig()), stage, seed=0)
    total, (metrics, _) = jax.jit(functools.partial(loss, {}, {}))(batch, moment)
    away = np.linalg.norm(USAGE - USAGE.mean())
    squared = getattr(losses.get("uniform"), "norm", "squared") == "squared"
    terms = {
        "accuracy": _cross_entropy(LOGITS),
        "efficiency": USAGE @ GFLOPS,
        "uniform": away**2 if squared else away,
        "separate": _cross_entropy(LOGITS) + _cross_entropy(-LOGITS),
    }
    expected = sum(weight * terms[name] for name, weight in factors.items())
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert metrics["loss"] == total
    found = {name: value for name, value in metrics.items() if name.startswith("loss/")}
    assert found == pytest.approx({f"loss/{name}": terms[name] for name in factors}, rel=1e-6)
    usage = [metrics[f"usage/{name}"] for name in ("a", "b", "c")]
    np.testing.assert_allclose(usage, USAGE, rtol=1e-6)


def test_terms_are_summed_in_one_order_whatever_the_config_says() -> None:
    names = ["accuracy", "efficiency", "uniform", "separate", "reinforce"]
    losses: dict[str, Loss] = {name: Loss.of_name(name, "x")() for name in reversed(names)}
    assert list(in_order(losses)) == names
    assert in_order(losses) == losses


def test_an_unknown_loss_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match=r"config\.stages\.joint\.losses\.accurracy: no loss") as e:
        Config.from_dict({"stages": {"joint": {"losses": {"accurracy": {}}}}})
    for name in ("accuracy", "efficiency", "uniform", "separate", "reinforce"):
        assert name in str(e.value)
    assert "\n" not in str(e.value)


def test_a_loss_that_the_method_gives_nothing_for_is_refused() -> None:
    values = {"stage_order": ("joint",), "stages": {"joint": {"losses": {"reinforce": {}}}}}
    message = r"stages\.joint\.losses\.reinforce: needs log_probability, reward, baseline, which"
    with pytest.raises(UserError, match=message):
        Config.from_dict(values)
