"""Training steps: what each objective trains, what freezing keeps, the same seed twice."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ar_net_jax.config.optimizer import OptimizerConfig
from ar_net_jax.experiment import Config
from ar_net_jax.inference.step import make_predict_step
from ar_net_jax.losses import Accuracy, Efficiency, Separate
from ar_net_jax.losses import Uniform as UniformUsage
from ar_net_jax.methods import Method
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig, ARNetStage
from ar_net_jax.methods.uniform import Uniform, UniformConfig
from ar_net_jax.modules.policy import PolicyConfig
from ar_net_jax.training import parts
from ar_net_jax.training.optimizer import make_optimizer
from ar_net_jax.training.stage_loss import StageLoss
from ar_net_jax.training.state import Best, TrainState
from ar_net_jax.training.steps import make_train_step

VIDEOS, FRAMES, CLASSES = 4, 4, 3
POLICY = PolicyConfig("resnet8_tiny", 16, hidden_size=8)


class OneGFLOP(ARNet):
    """An AR-Net whose high resolution costs just 1 GFLOP, and the other choices nothing."""

    def choice_gflops(self, convention: Any = None, **kwargs: bool) -> np.ndarray:
        """1 for 24 px."""
        return np.array([1.0, 0.0, 0.0, 0.0])


AR_NET = OneGFLOP(
    ARNetConfig(
        num_classes=CLASSES,
        resolutions=(24, 16),
        backbones=("resnet8_tiny",),
        skips=(1, 2),
        policy=POLICY,
    )
)
# A bound that clips, so that a norm shared between networks would show.
OPTIMIZER = OptimizerConfig(clip_norm=0.2)
WARMUP = ARNetStage(
    "separate",
    {"separate": Separate()},
    epochs=2,
    learning_rate=0.1,
    train_policy_features=True,
)
LOSSES = {"accuracy": Accuracy(0.9), "efficiency": Efficiency(0.1), "uniform": UniformUsage(0.3)}
JOINT = ARNetStage("joint", LOSSES, epochs=2, learning_rate=0.1)


def _batch(step: int) -> dict[str, jax.Array]:
    rng = np.random.default_rng(step)
    batch = {
        "frames": rng.integers(0, 256, (VIDEOS, FRAMES, 24, 24, 3), np.uint8),
        "labels": np.array([[0, -1], [1, 2], [2, -1], [1, -1]], np.int32),
        "example_id": np.arange(VIDEOS, dtype=np.int32) + step * VIDEOS,
        "epoch": np.full(VIDEOS, step, np.int32),
        "mask": np.ones(VIDEOS, bool),
    }
    return jax.tree.map(jnp.asarray, batch)


def _shapes(method: Method) -> Any:
    return jax.eval_shape(lambda key: method.initial_variables(key, WARMUP), jax.random.key(0))


@functools.cache
def _initial(method: Method) -> Any:
    """Random weights, drawn by numpy because that needs no compilation."""
    rng = np.random.default_rng(0)

    def fill(path: tuple, x: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key in ("scale", "var"):
            return np.ones(x.shape, np.float32)
        size = 0.1 if x.ndim == 1 else np.prod(x.shape[:-1]) ** -0.5
        return (rng.normal(size=x.shape) * size).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, _shapes(method))


def _step(method: Method, stage: ARNetStage, seed: int = 5) -> tuple[Any, Any]:
    """The compiled step of a stage, and its optimizer; compiled once for each."""
    key = (method, repr(stage), seed)
    if key not in _STEPS:
        optimizer = make_optimizer(
            OPTIMIZER,
            optax.constant_schedule(stage.learning_rate),
            _shapes(method)["params"],
            part_of=lambda path: method.part_of(stage, path),
            heads=method.head_names(),
        )
        step = make_train_step(StageLoss(method, stage, seed), optimizer, steps_per_epoch=2)
        _STEPS[key] = step, optimizer
    return _STEPS[key]


_STEPS: dict[tuple, tuple[Any, Any]] = {}


def _train(
    method: Method, stage: ARNetStage, steps: int = 3, variables: Any = None
) -> tuple[TrainState, list[dict[str, float]]]:
    step, optimizer = _step(method, stage)
    variables = jax.tree.map(jnp.array, _initial(method) if variables is None else variables)
    state, metrics = TrainState.create(variables, optimizer), []
    for index in range(steps):
        state, found = step(state, _batch(index))
        metrics.append({name: float(value) for name, value in found.items()})
    return state, metrics


def _changed(before: Any, after: Any) -> bool | None:
    """True if every array differs, False if none does, None in between."""
    same = [np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after))]
    return None if any(same) and not all(same) else not all(same)


# --- Separate training --------------------------------------------------------------------------


def test_training_all_separately_equals_training_each_by_itself() -> None:
    together, metrics = _train(AR_NET, WARMUP)
    alone = {
        "backbone_0": Uniform(
            UniformConfig(num_classes=CLASSES, backbone="resnet8_tiny", resolution=24)
        ),
        "policy": ARNet(
            ARNetConfig(
                num_classes=CLASSES, resolutions=(16,), backbones=(), skips=(1, 2, 3), policy=POLICY
            )
        ),
    }
    initial = _initial(AR_NET)
    for name, method in alone.items():
        # The frames are the same, larger than this model needs: it shrinks them itself.
        start = {kind: {name: tree[name]} for kind, tree in initial.items()}
        state, own = _train(method, WARMUP, variables=start)
        for kind in ("params", "batch_stats"):
            trained, expected = getattr(together, kind)[name], getattr(state, kind)[name]
            for part in {"backbone", "head", "lowest_head"} & set(expected):
                assert _changed(initial[kind][name][part], trained[part]) is True
                compare = functools.partial(np.testing.assert_allclose, atol=2e-5)
                jax.tree.map(compare, trained[part], expected[part])
        losses = [m[f"loss/{name}"] for m in metrics]
        np.testing.assert_allclose(losses, [m["loss"] for m in own], atol=1e-5)
    for found in metrics:
        total = found["loss/backbone_0"] + found["loss/policy"]
        assert found["loss"] == pytest.approx(total, rel=1e-6)
    for untrained in ("lstm", "decision"):
        before, after = (p["policy"][untrained] for p in (initial["params"], together.params))
        assert _changed(before, after) is False


def test_a_warm_up_without_the_policy_leaves_all_of_it_as_it_was() -> None:
    stage = dataclasses.replace(WARMUP, train_policy_features=False)
    state, metrics = _train(AR_NET, stage, steps=1)
    assert "loss/policy" not in metrics[0]
    for kind, before in _initial(AR_NET).items():
        assert _changed(before["policy"], getattr(state, kind)["policy"]) is False
        assert _changed(before["backbone_0"], getattr(state, kind)["backbone_0"]) is not False


# --- Joint training -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "freeze, params, statistics",
    [("none", True, True), ("parameters", False, True), ("all", False, False)],
)
def test_freezing_the_policy(freeze: str, params: bool, statistics: bool) -> None:
    stage = dataclasses.replace(JOINT, freeze_policy=freeze)
    state, metrics = _train(AR_NET, stage, steps=2)
    before = _initial(AR_NET)
    assert _changed(before["params"]["policy"], state.params["policy"]) is params
    assert _changed(before["batch_stats"]["policy"], state.batch_stats["policy"]) is statistics
    assert _changed(before["params"]["backbone_0"], state.params["backbone_0"]) is True
    assert _changed(before["batch_stats"]["backbone_0"], state.batch_stats["backbone_0"]) is True
    for found in metrics:
        usage = [found[f"usage/{name}"] for name in AR_NET.choices.names]
        assert sum(usage) == pytest.approx(1)
        terms = [found[f"loss/{name}"] for name in ("accuracy", "efficiency", "uniform")]
        assert found["loss"] == pytest.approx(np.dot([0.9, 0.1, 0.3], terms), rel=1e-5)
        assert terms[1] == pytest.approx(usage[0], rel=1e-5), "1 GFLOP for the 24 px, 0 for others"


def test_the_networks_own_losses_are_those_of_a_separate_stage() -> None:
    stage = dataclasses.replace(JOINT, losses={**LOSSES, "separate": Separate(0.5)})
    state, (found,) = _train(AR_NET, stage, steps=1)
    _, (separate,) = _train(AR_NET, WARMUP, steps=1)
    assert found["loss/separate"] == pytest.approx(separate["loss"], rel=1e-5)
    terms = [found[f"loss/{name}"] for name in ("accuracy", "efficiency", "uniform", "separate")]
    assert found["loss"] == pytest.approx(np.dot([0.9, 0.1, 0.3, 0.5], terms), rel=1e-5)
    plain, _ = _train(AR_NET, JOINT, steps=1)
    assert _changed(plain.params["backbone_0"], state.params["backbone_0"]) is not False


def test_the_temperature_falls_once_an_epoch() -> None:
    _, metrics = _train(AR_NET, JOINT, steps=5)
    expected = 5.0 * np.exp(-0.045 * np.array([0, 0, 1, 1, 2]))
    np.testing.assert_allclose([m["tau"] for m in metrics], expected, rtol=1e-6)


def test_the_same_seed_gives_bit_identical_losses() -> None:
    first, again = _train(AR_NET, JOINT), _train(AR_NET, JOINT)
    assert first[1] == again[1]
    jax.tree.map(np.testing.assert_array_equal, first[0].variables, again[0].variables)


def test_the_state_is_donated() -> None:
    step, optimizer = _step(AR_NET, JOINT)
    state = TrainState.create(jax.tree.map(jnp.array, _initial(AR_NET)), optimizer)
    old = jax.tree.leaves(state)
    step(state, _batch(0))
    assert all(leaf.is_deleted() for leaf in old)


def test_evaluation_ignores_padding_rows_and_the_order_of_rows() -> None:
    predict = make_predict_step(AR_NET, seed=0, routing="masked")
    batch = _batch(0)
    whole = predict(_initial(AR_NET), batch)
    order = np.array([3, 1, 0, 2])
    shuffled = jax.tree.map(lambda x: x[order], batch)
    shuffled["frames"] = shuffled["frames"].at[3].set(0)
    shuffled["example_id"] = shuffled["example_id"].at[3].set(-1)
    other = predict(_initial(AR_NET), shuffled)
    np.testing.assert_allclose(other.logits[:3], whole.logits[order[:3]], atol=1e-6)


# --- What a stage starts from and hands on ------------------------------------------------------


def test_the_best_epoch_is_kept_for_each_part_by_itself() -> None:
    def variables(value: float) -> dict[str, Any]:
        return {
            "params": {
                "backbone_0": {"w": jnp.full(2, value)},
                "policy": {"w": jnp.full(2, value)},
            },
            "batch_stats": {"backbone_0": {"m": jnp.full(1, value)}},
        }

    best = Best.create(("backbone_0", "policy"), variables(0.0))
    third = 100 / 3
    scores = [(third, 10.0), (20.0, 30.0), (third, float("nan")), (third - 1e-9, 29.0)]
    for epoch, (backbone, policy) in enumerate(scores):
        best = best.update(
            {"backbone_0": backbone, "policy": policy}, epoch, variables(epoch + 1.0)
        )
    assert {part: int(epoch) for part, epoch in best.epoch.items()} == {
        "backbone_0": 3,
        "policy": 1,
    }, "of equal epochs the last one"
    assert float(best.score["policy"]) == 30.0
    assert best.variables["params"]["backbone_0"]["w"].tolist() == [4.0, 4.0]
    assert best.variables["batch_stats"]["backbone_0"]["m"].tolist() == [4.0]
    assert best.variables["params"]["policy"]["w"].tolist() == [2.0, 2.0]

    whole = Best.create(("model",), variables(0.0)).update({"model": 0.0}, 0, variables(1.0))
    assert all(np.all(x == 1.0) for x in jax.tree.leaves(whole.variables)), "0 beats nothing"


def test_a_stage_takes_over_what_fits_by_name_and_shape() -> None:
    fresh = {"params": {"a": {"w": np.zeros(2), "b": np.zeros(3)}, "new": {"w": np.zeros(1)}}}
    earlier = {"params": {"a": {"w": np.ones(2), "b": np.ones(4)}, "gone": {"w": np.ones(1)}}}
    variables, taken = parts.restore_partial(fresh, earlier)
    assert taken == 1
    assert {k: v.tolist() for k, v in variables["params"]["a"].items()} == {
        "w": [1.0, 1.0],
        "b": [0.0, 0.0, 0.0],
    }
    assert set(variables["params"]) == {"a", "new"}
    assert parts.restore_partial(fresh, None) == (fresh, 0)


def test_modules_of_another_name_are_found_under_the_name_here() -> None:
    earlier = {"params": {"backbone_0": 1, "policy": 2}, "batch_stats": {"policy": 3}}
    assert parts.as_named_here(earlier, {"focus": "backbone_0", "glance": "preview"}) == {
        "params": {"backbone_0": 1, "policy": 2, "focus": 1},
        "batch_stats": {"policy": 3},
    }
    # A module of the own name stays.
    assert parts.as_named_here(earlier, {"policy": "backbone_0"}) == earlier


@pytest.mark.parametrize("level", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_only_what_is_missing_is_drawn_and_as_it_would_be_with_the_rest(level: int) -> None:
    key = jax.random.key(3)
    draw = AR_NET.initial_variables
    # The usual level is 3: few optimisations are to change nothing.
    whole = jax.jit(draw, compiler_options={"xla_backend_optimization_level": level})
    shapes, all_drawn = jax.eval_shape(draw, key), whole(key)
    earlier = jax.tree.map(lambda x: np.full(x.shape, 7, x.dtype), shapes)
    del earlier["params"]["backbone_0"]
    variables, taken = parts.restore_partial(shapes, earlier)
    assert taken == len(jax.tree.leaves(earlier)) < len(jax.tree.leaves(shapes))
    variables = parts.draw_missing(variables, draw, key)
    drawn = variables["params"].pop("backbone_0")
    jax.tree.map(np.testing.assert_array_equal, drawn, all_drawn["params"]["backbone_0"])
    assert np.ptp(drawn["backbone"]["conv1"]["kernel"]) > 0
    assert all(np.all(x == 7) for x in jax.tree.leaves(variables))


def test_each_stage_and_seed_draws_its_own_randomness() -> None:
    seeds = {parts.stage_seed(Config(seed=s), index) for s in range(3) for index in range(3)}
    assert len(seeds) == 9
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert parts.stage_seed(Config(seed=1), 2) == parts.stage_seed(Config(seed=1), 2)
