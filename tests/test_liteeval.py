"""LiteEval: when its gate opens, what it makes of that, how its gate learns."""

import dataclasses
import functools
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.experiment import Config
from ar_net_jax.inference.model import Model
from ar_net_jax.methods import MODEL, Moment
from ar_net_jax.methods.liteeval import LiteEval
from ar_net_jax.methods.liteeval_module import (
    COARSE_LSTM,
    FINE_LSTM,
    LiteEvalConfig,
    down_to_one,
)
from ar_net_jax.methods.uniform import Uniform, UniformConfig
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.gated_recurrence import synchronise
from ar_net_jax.modules.recurrence import LSTMState
from ar_net_jax.ops.decide import Forced, GumbelSample
from ar_net_jax.ops.resize import prepare_frames
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.training.stage_loss import StageLoss

VIDEOS, FRAMES, CLASSES = 3, 6, 4
SMALL = LiteEvalConfig(
    num_classes=CLASSES,
    backbone="resnet8_tiny",
    resolution=24,
    coarse_backbone="resnet8_tiny",
    coarse_resolution=16,
    fine_width=6,
    coarse_width=5,
    fine_hidden=7,
    coarse_hidden=3,
)
METHOD = LiteEval(SMALL)
LENGTHS = np.array([6, 1, 4])
MASK = np.arange(FRAMES) < LENGTHS[:, None]
RNG = np.random.default_rng(0)
# Each frame of a colour of its own, so that features, and with them the gate, differ.
COLOURS = RNG.integers(0, 200, (VIDEOS, FRAMES, 1, 1, 3))
CLIPS = (COLOURS + RNG.integers(0, 56, (VIDEOS, FRAMES, 24, 24, 3))).astype(np.uint8)


@functools.cache
def _variables() -> dict[str, Any]:
    """Random weights of a size at which features matter and the gate opens on some frames."""
    rng = np.random.default_rng(5)

    def fill(path: tuple[Any, ...], x: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
        size = 0.1 if x.ndim == 1 else 1.5 * np.prod(x.shape[:-1]) ** -0.5
        return (rng.normal(size=x.shape) * size).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(fill, METHOD.variable_shapes())
    # Features of unit length are small beside a variance of 1.
    for part in variables["batch_stats"]["recurrence"].values():
        part["norm_in"]["var"] = part["norm_in"]["var"] / 100
    return variables


@functools.cache
def _model() -> Model:
    return Model(Config(method="liteeval", model=SMALL), _variables())


@functools.cache
def _features(module: str, resolution: int) -> np.ndarray:
    """Pooled features [B, T, D] of one of the networks, by a Uniform's module."""
    config = UniformConfig(num_classes=CLASSES, backbone="resnet8_tiny", resolution=resolution)
    weights = {kind: {"backbone_0": tree[module]} for kind, tree in _variables().items()}

    def run(module: Any, frames: jax.Array) -> jax.Array:
        network = module.backbone_0
        x = prepare_frames(frames, resolution, config.resize, network.normalisation)
        return network.features(x)

    apply = jax.jit(functools.partial(Uniform(config).module().apply, method=run))
    found = apply(weights, CLIPS.reshape(-1, *CLIPS.shape[2:]))
    return np.asarray(found, np.float64).reshape(VIDEOS, FRAMES, -1)


# --- The model in plain NumPy -------------------------------------------------------------------


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _linear(weights: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x @ np.float64(weights["kernel"]) + weights["bias"]


def _projected(part: str, x: np.ndarray) -> np.ndarray:
    params, stats = (_variables()[kind]["recurrence"][part] for kind in ("params", "batch_stats"))

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        own, seen = params[name], stats[name]
        return (x - seen["mean"]) / np.sqrt(seen["var"] + 1e-5) * own["scale"] + own["bias"]

    x = x / np.linalg.norm(x)
    x = norm("norm_out", _linear(params["projection"], norm("norm_in", x)))
    return np.maximum(x, 0)


def _cell(part: str, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    own = _variables()["params"]["recurrence"][part]["cell"]
    gates = x @ np.float64(own["kernel_ih"]) + h @ np.float64(own["kernel_hh"])
    i, f, g, o = np.split(gates + own["bias_ih"] + own["bias_hh"], 4)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _expected(
    lengths: np.ndarray, forced: np.ndarray | None = None, offset: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Choices [B, T], -1 on padding, and logits [B, C]; `offset` is added to "open"."""
    params = _variables()["params"]["recurrence"]
    actions, logits = np.full((VIDEOS, FRAMES), -1), np.zeros((VIDEOS, CLASSES))
    for video in range(VIDEOS):
        small_h = small_c = np.zeros(SMALL.coarse_hidden)
        h = c = np.zeros(SMALL.fine_hidden)
        for frame in range(lengths[video]):
            seen = _projected("coarse", _features("coarse", 16)[video, frame])
            gate = _linear(params["coarse"]["head"], np.concatenate([seen, h, c]))
            action = int(gate[1] > gate[0] + offset) if forced is None else forced[video, frame]
            small_h, small_c = _cell("coarse", seen, small_h, small_c)
            if action == 0:
                fine = _projected("fine", _features("backbone_0", 24)[video, frame])
                h, c = _cell("fine", np.concatenate([fine, seen]), h, c)
            else:
                h, c = h.copy(), c.copy()
                h[: len(small_h)], c[: len(small_c)] = small_h, small_c
            actions[video, frame] = action
        logits[video] = _linear(params["fine"]["head"], h)
    return actions, logits


def test_it_is_the_model_in_plain_numpy_in_both_forms() -> None:
    actions, logits = _expected(LENGTHS)
    masked = _model()(CLIPS, num_frames=LENGTHS, routing="masked")
    routed = _model()(CLIPS, num_frames=LENGTHS, chunks=(1,))
    opened = actions == 0
    assert 0 < opened.sum() < LENGTHS.sum(), "both choices are made"
    for result in (masked, routed):
        np.testing.assert_array_equal(result.actions, actions)
        np.testing.assert_allclose(result.logits, logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(result.calls["24px"], opened.sum(1))
        np.testing.assert_array_equal(result.calls[FINE_LSTM], opened.sum(1))
        np.testing.assert_array_equal(result.calls["coarse"], LENGTHS)
    np.testing.assert_allclose(routed.logits, masked.logits, atol=1e-5)
    everything = VIDEOS * FRAMES
    assert masked.executed == dict.fromkeys(METHOD.networks(), everything)
    assert routed.executed == {
        "24px": opened.sum(),
        FINE_LSTM: opened.sum(),
        "coarse": LENGTHS.sum(),
        COARSE_LSTM: everything,
    }


@pytest.mark.parametrize("planned", [(128, 32, 8), (4, 2), (64, 16), (1,)])
def test_a_step_of_the_scan_fills_no_large_chunk_with_few_videos(planned: tuple[int, ...]) -> None:
    sizes = down_to_one(planned)
    assert sizes[: len(planned)] == planned and sizes[-1] == 1
    smaller = sizes[len(planned) - 1 :]
    assert all(small == max(1, large // 4) for large, small in pairwise(smaller))


def test_an_offset_steers_the_gate_and_a_shut_one_leaves_the_heavy_network_out() -> None:
    plain, dear, cheap = (
        _model()(CLIPS, num_frames=LENGTHS, cost_penalty=by, chunks=(1,)) for by in (0, -1e3, 1e3)
    )
    for result, action in ((dear, 0), (cheap, 1)):
        actions, logits = _expected(LENGTHS, np.full((VIDEOS, FRAMES), action))
        np.testing.assert_array_equal(result.actions, actions)
        np.testing.assert_allclose(result.logits, logits, rtol=1e-4, atol=1e-5)
    assert dear.executed["24px"] == MASK.sum() and cheap.executed["24px"] == 0
    assert (cheap.gflops <= plain.gflops).all() and (plain.gflops <= dear.gflops).all()
    assert cheap.gflops.sum() < plain.gflops.sum() < dear.gflops.sum()


def test_under_the_other_head_a_layer_stands_before_the_videos_classifier() -> None:
    """Of one state no maximum is taken; the networks by themselves are Uniforms of that head."""
    method = LiteEval(dataclasses.replace(SMALL, head="max_mlp"))
    rng, shapes = np.random.default_rng(2), method.variable_shapes()
    drawn = jax.tree.map(lambda x: rng.uniform(0.2, 1.0, x.shape).astype(np.float32), shapes)
    params, stats = (drawn[kind]["recurrence"]["fine"] for kind in ("params", "batch_stats"))
    hidden = rng.normal(size=(2, SMALL.fine_hidden)).astype(np.float32)
    state = LSTMState(jnp.asarray(hidden), jnp.zeros_like(hidden))
    found = method.module().apply(drawn, state, method="classify")
    norm, seen = params["embedding"]["norm"], stats["embedding"]["norm"]
    embedded = (hidden @ params["embedding"]["kernel"] - seen["mean"]) / np.sqrt(seen["var"] + 1e-5)
    expected = _linear(params["head"], np.maximum(embedded * norm["scale"] + norm["bias"], 0))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    uniform = Uniform(
        UniformConfig(num_classes=CLASSES, backbone="resnet8_tiny", resolution=24, head="max_mlp")
    ).variable_shapes()
    assert {kind: tree["backbone_0"] for kind, tree in shapes.items()} == {
        kind: tree["backbone_0"] for kind, tree in uniform.items()
    }


def test_imposed_choices_are_made_and_teach_the_gate_nothing() -> None:
    forced = np.array([[0, 1, 1, 0, 1, 1], [1] * 6, [0, 0, 1, 1, 1, 0]])

    def total(recurrence: Any) -> tuple[jax.Array, Any]:
        mode = Mode(decide=Forced(jnp.asarray(forced)))
        params = {**_variables()["params"], "recurrence": recurrence}
        found = METHOD.module().apply({**_variables(), "params": params}, CLIPS, mode)
        return jnp.sum(found.logits**2), found

    own = _variables()["params"]["recurrence"]
    gradient, found = jax.jit(jax.grad(total, has_aux=True))(own)
    np.testing.assert_array_equal(found.decisions.actions, forced)
    expected = _expected(np.full(VIDEOS, FRAMES), forced)[1]
    np.testing.assert_allclose(found.logits, expected, rtol=1e-4, atol=1e-5)
    assert not np.any(gradient["coarse"]["head"]["kernel"])
    assert np.any(gradient["fine"]["head"]["kernel"])


def test_synchronising_overwrites_the_first_entries_of_both_halves() -> None:
    h, c, small_h, small_c = (np.float32(RNG.normal(size=(2, n))) for n in (5, 5, 3, 3))
    found = synchronise(LSTMState(jnp.array(h), jnp.array(c)), LSTMState(small_h, small_c))
    h[:, :3], c[:, :3] = small_h, small_c
    np.testing.assert_array_equal(found.hidden, h)
    np.testing.assert_array_equal(found.cell, c)


def test_frame_by_frame_equals_the_clip() -> None:
    lengths = np.full(VIDEOS, FRAMES)
    clip, stream = _model()(CLIPS, num_frames=lengths, routing="masked"), _model().stream()
    for video in range(VIDEOS):
        stream.reset()
        steps = [stream.push(frame) for frame in CLIPS[video]]
        np.testing.assert_array_equal(stream.actions, clip.actions[video])
        np.testing.assert_allclose(stream.logits, clip.logits[video], atol=1e-5)
        np.testing.assert_allclose(stream.gflops, clip.gflops[video], rtol=1e-5)
        for step in steps:
            heavy = ("24px", FINE_LSTM) if step.action == 0 else ()
            assert step.networks == ("coarse", COARSE_LSTM, *heavy)
    with pytest.raises(ValueError, match=r"uint8 \[24, 24, 3\]"):
        stream.push(np.zeros((16, 16, 3), np.uint8))


# --- The gate's samples -------------------------------------------------------------------------


@functools.cache
def _keys() -> jax.Array:
    return example_keys(0, jnp.zeros(VIDEOS, jnp.int32), jnp.arange(VIDEOS))


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_how_often_a_sampled_gate_opens(scale: float) -> None:
    """The difference of two Gumbel variables is logistic: the share is a sigmoid."""
    decide, draws = GumbelSample(1.0, noise_scale=scale), 40_000
    logits = jnp.array([0.4, -0.3])
    noise = decide.inputs(_keys(), draws, 2)
    share = float(decide.choose(jnp.broadcast_to(logits, noise.shape), noise)[..., 0].mean())
    expected = _sigmoid(np.float64(0.7) / scale)
    deviation = np.sqrt(expected * (1 - expected) / (draws * VIDEOS))
    assert abs(share - expected) < 4 * deviation


def test_the_gates_gradient_on_one_frame() -> None:
    """The two states' difference, weighted by the relaxed sample's slope."""
    tau, scale = 0.8, 0.5
    variables, clips = _variables(), CLIPS[:, :1]
    mode = Mode(keys=_keys(), decide=GumbelSample(jnp.float32(tau), noise_scale=scale))

    @jax.jit
    def gradient(bias: jax.Array) -> tuple[jax.Array, jax.Array]:
        def logits(bias: jax.Array) -> tuple[jax.Array, jax.Array]:
            params = jax.tree.map(lambda x: x, variables["params"])
            params["recurrence"]["coarse"]["head"]["bias"] = bias
            found = METHOD.module().apply({**variables, "params": params}, clips, mode)
            return found.logits, found.decisions.logits

        return jax.jacrev(logits, has_aux=True)(bias)

    found, gate = gradient(jnp.asarray(variables["params"]["recurrence"]["coarse"]["head"]["bias"]))
    noise = np.asarray(mode.decide.inputs(_keys(), 1, 2), np.float64)
    difference = ((np.asarray(gate, np.float64) + noise) @ np.array([1, -1]) / tau)[:, 0]
    slope = _sigmoid(difference) * _sigmoid(-difference) / tau
    one = np.ones(VIDEOS, int)
    opened, shut = (_expected(one, np.full((VIDEOS, 1), action))[1] for action in (0, 1))
    expected = (opened - shut) * slope[:, None]
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found[..., 1], -expected, rtol=1e-3, atol=1e-5)


def test_the_temperature_falls_by_the_step() -> None:
    stage = LiteEval.stages()["joint"]
    for step, tau in ((0, 1.0), (1000, 0.904837), (6931, 0.500024), (10**6, 0.5)):
        assert float(stage.temperature(jnp.int32(step))) == pytest.approx(tau, rel=1e-4)
    mode = METHOD.training_mode(stage, _keys(), Moment(jnp.int32(1000), jnp.float32(0)))
    assert float(mode.decide.tau) == pytest.approx(0.904837, rel=1e-4)
    assert mode.decide.noise_scale == 0.5
    assert not mode.trains("coarse") and mode.trains("recurrence")
    free = dataclasses.replace(stage, freeze_backbones=False)
    mode = METHOD.training_mode(free, _keys(), Moment(jnp.int32(0), jnp.float32(0)))
    assert mode.trains("coarse") and METHOD.part_of(free, ("coarse", "head")) == MODEL


# --- Training -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_joint_step_teaches_the_recurrence_and_leaves_the_networks() -> None:
    rng = np.random.default_rng(1)
    batch = {
        "frames": rng.integers(0, 256, (4, 3, 24, 24, 3), np.uint8),
        "labels": np.array([[0, -1], [1, 2], [2, -1], [1, -1]], np.int32),
        "example_id": np.arange(4, dtype=np.int32),
        "epoch": np.zeros(4, np.int32),
    }
    loss = StageLoss(METHOD, LiteEval.stages()["joint"], 0)
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    params, stats = (_variables()[kind] for kind in ("params", "batch_stats"))
    now = Moment(jnp.int32(0), jnp.float32(0))
    (total, (metrics, after)), gradient = step(params, stats, batch, now)
    for module in ("backbone_0", "coarse"):
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient[module]))
        jax.tree.map(np.testing.assert_array_equal, after[module], stats[module])
    own = jax.tree.map(np.any, gradient["recurrence"])
    for part in own.values():
        # The BatchNorm after the projection takes this bias out again.
        part["norm_in"].pop("bias", None)
    assert all(jax.tree.leaves(own)), "every parameter learns"
    moved = jax.tree.map(np.array_equal, after["recurrence"], stats["recurrence"])
    assert not any(jax.tree.leaves(moved)), "and all statistics move"
    usage = float(metrics["usage/24px"])
    assert usage + metrics["usage/coarse only"] == pytest.approx(1)
    assert metrics["loss/gate_usage"] == pytest.approx((usage - 0.1) ** 2, rel=1e-5)
    assert total == pytest.approx(metrics["loss/accuracy"] + metrics["loss/gate_usage"])


def test_separate_training_averages_each_network_over_all_frames() -> None:
    stage = LiteEval.stages()["warmup"]
    found, _ = jax.jit(functools.partial(METHOD.classify_separately, stage))(
        _variables(), CLIPS, Mode()
    )
    for name, side in (("backbone_0", 24), ("coarse", 16)):
        head = _variables()["params"][name]["head"]
        expected = _linear(head, _features(name, side)).mean(1)
        np.testing.assert_allclose(found[name], expected, atol=1e-5)
