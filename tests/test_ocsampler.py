"""OCSampler: which frames are chosen, what that costs, what its training does."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ar_net_jax import backbones
from ar_net_jax.config.optimizer import OptimizerConfig
from ar_net_jax.costs import total_gflops
from ar_net_jax.costs.modules import backbone_macs
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import Model
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.losses import LossContext
from ar_net_jax.methods import FROZEN, MODEL, Mode, Moment, Prediction
from ar_net_jax.methods.ocsampler import MAIN, SKIM, OCSampler, OCSamplerConfig, SetPolicy
from ar_net_jax.methods.uniform import uniform_of
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.ops.subsets import set_log_probability
from ar_net_jax.training.optimizer import make_optimizer
from ar_net_jax.training.parts import restore_partial
from ar_net_jax.training.stage_loss import StageLoss
from ar_net_jax.training.state import TrainState
from ar_net_jax.training.steps import make_train_step

VIDEOS, FRAMES, CLASSES, CHOSEN = 3, 5, 4, 2
MODEL_CONFIG = OCSamplerConfig(
    num_classes=CLASSES,
    backbone="resnet8_tiny",
    resolution=24,
    skim_backbone="resnet8_tiny",
    skim_resolution=16,
    shift_div=4,
    frames=CHOSEN,
)
METHOD = OCSampler(MODEL_CONFIG)
LENGTHS = np.array([5, 1, 3])
MASK = np.arange(FRAMES) < LENGTHS[:, None]
RNG = np.random.default_rng(0)
# Each frame of a colour of its own, so that scores, and with them the set, differ.
COLOURS = RNG.integers(0, 200, (VIDEOS, FRAMES, 1, 1, 3))
CLIPS = (COLOURS + RNG.integers(0, 56, (VIDEOS, FRAMES, 24, 24, 3))).astype(np.uint8)
LABELS = np.array([[0, -1], [1, 2], [3, -1]], np.int32)


def _keys(count: int = VIDEOS) -> jax.Array:
    return example_keys(0, jnp.zeros(count, jnp.int32), jnp.arange(count))


@functools.cache
def _variables() -> dict[str, Any]:
    """Random weights of a size at which features matter."""
    rng = np.random.default_rng(3)

    def fill(path: tuple[Any, ...], x: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
        size = 0.1 if x.ndim == 1 else np.prod(x.shape[:-1]) ** -0.5
        return (rng.normal(size=x.shape) * size).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, METHOD.variable_shapes())


@functools.cache
def _model() -> Model:
    return Model(Config(method="ocsampler", model=MODEL_CONFIG), _variables())


# --- Forward ------------------------------------------------------------------------------------


@functools.cache
def _alone() -> tuple[np.ndarray, np.ndarray]:
    """Scores [B, T] of the skim network, and embeddings [B, T, W] of the classifier."""

    def run(module: Any, frames: jax.Array) -> Any:
        everything = jnp.ones(frames.shape[:2], bool)
        both = (module._run(name, frames, everything, Mode())[0] for name in (SKIM, MAIN))
        return tuple(both)

    apply = jax.jit(lambda x: METHOD.module().apply(_variables(), x, method=run))
    scores, rows = apply(CLIPS)
    return np.asarray(scores[..., 0]), np.asarray(rows)


def _classified(rows: np.ndarray) -> np.ndarray:
    """Logits of a set's embeddings [N, W] in plain NumPy."""
    head = _variables()["params"][MAIN]["head"]
    return rows.max(0) @ head["kernel"] + head["bias"]


def test_the_classifier_sees_the_most_probable_frames_and_no_others_are_computed() -> None:
    scores, rows = _alone()
    masked = _model()(CLIPS, routing="masked")
    routed = _model()(CLIPS, chunks=(1,))
    sets = np.sort(np.argsort(-scores, axis=1)[:, :CHOSEN], axis=1)
    assert len({tuple(row) for row in sets}) > 1, "not the same frames of every video"
    for result in (masked, routed):
        np.testing.assert_array_equal([np.flatnonzero(a == 0) for a in result.actions], sets)
        expected = [_classified(rows[b, chosen]) for b, chosen in enumerate(sets)]
        np.testing.assert_allclose(result.logits, expected, atol=1e-4)
        np.testing.assert_array_equal(result.calls["24px"], CHOSEN)
        np.testing.assert_array_equal(result.calls["skim"], FRAMES)
    assert routed.executed == {"24px": VIDEOS * CHOSEN, "skim": VIDEOS * FRAMES}
    assert masked.executed == {"24px": VIDEOS * FRAMES, "skim": VIDEOS * FRAMES}


def test_what_padding_shows_is_of_no_account() -> None:
    """Not to the frame before it either, although frames trade channels."""
    noise = np.where(MASK[..., None, None, None], CLIPS, 255).astype(np.uint8)
    one, other = (_model()(x, num_frames=LENGTHS, chunks=(1,)) for x in (CLIPS, noise))
    np.testing.assert_array_equal(one.actions, other.actions)
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-6)
    assert one.executed["24px"] == np.minimum(CHOSEN, LENGTHS).sum()
    dense = _model()(CLIPS, num_frames=LENGTHS, routing="masked")
    np.testing.assert_array_equal(one.actions, dense.actions)
    np.testing.assert_allclose(one.logits, dense.logits, atol=1e-5)
    np.testing.assert_array_equal(one.actions < 0, ~MASK)
    np.testing.assert_array_equal(one.calls["skim"], LENGTHS)


def test_imposed_frames_are_looked_at_however_many() -> None:
    actions = np.array([[0, 1, 1, 1, 1], [0, 0, 0, 1, 1], [1, 0, 0, 1, 0]])
    infer = make_inference(METHOD, chunks=(1,))
    request = Request(CLIPS, _keys(), forced_actions=actions)
    result = infer(_model().variables, request, jnp.float32(0.0))
    rows = _alone()[1]
    expected = [_classified(rows[b, a == 0]) for b, a in enumerate(actions)]
    np.testing.assert_allclose(result.logits, expected, atol=1e-4)
    assert int(result.executed["24px"][0]) == 7
    assert int(result.executed["skim"][0]) == VIDEOS * FRAMES


# --- Costs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "published", "macs"), [(5, 21.62, 21.460), (4, 17.50, 17.363), (6, 25.74, 25.556)]
)
def test_costs_of_the_published_rows(count: int, published: float, macs: float) -> None:
    """Published: 4.12 for a frame of the classifier, .102 for one of the skim network."""
    method = OCSampler(OCSamplerConfig(frames=count))
    calls = {"224px": float(count), "skim": 10.0}
    assert count * 4.12 + 10 * 0.102 == pytest.approx(published, abs=0.001)
    found = total_gflops(method.networks(), calls, "paper")
    assert found == pytest.approx(published, abs=0.012)
    main = backbone_macs("resnet50", 224, 0) + 4096 * (2048 + 200)
    skim = backbone_macs("mobilenet_v2", 128, 1)
    counted = total_gflops(method.networks(), calls, "macs")
    assert counted == pytest.approx((count * main + 10 * skim) / 1e9)
    assert counted == pytest.approx(macs, abs=0.001)


# --- Losses and training ------------------------------------------------------------------------


@pytest.mark.parametrize("reward", ["confidence", "label"])
def test_the_loss_in_plain_numpy(reward: Any) -> None:
    rng = np.random.default_rng(0)
    drawn, segments = rng.normal(0, 2, (2, VIDEOS, CLASSES)).astype(np.float32)
    log_p, entropy = rng.normal(size=(2, VIDEOS)).astype(np.float32)
    drawn[0, 0], segments[0, 1] = 5, 5  # Right with the drawn set, wrong with the other.

    def worth(logits: np.ndarray, label: int) -> float:
        p = np.exp(logits) / np.exp(logits).sum()
        right = reward == "confidence" or p.argmax() == label
        return p.max() if right else p[label] - p.max()

    labels = LABELS[:, 0]
    rewards = [worth(*d) - worth(*s) for d, s in zip(zip(drawn, labels), zip(segments, labels))]
    expected = -np.mean(np.array(rewards) * log_p + 0.1 * entropy)
    outputs = {
        "log_probability": log_p,
        "entropy": entropy,
        "drawn_logits": drawn,
        "segment_logits": segments,
    }
    prediction = Prediction(drawn, {}, {}, outputs=jax.tree.map(jnp.asarray, outputs))
    found = SetPolicy(reward=reward)(prediction, LossContext(jnp.asarray(LABELS), jnp.zeros(2)))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_what_the_sampler_learns_from_is_of_the_sets_that_were_drawn() -> None:
    stage = METHOD.stages()["sampler"]
    mode = METHOD.training_mode(stage, _keys(), Moment(jnp.int32(0), jnp.float32(0)))
    # As in evaluation, so that both networks' rows are known.
    mode = dataclasses.replace(mode, train=False)
    found = jax.jit(METHOD.module().apply)(_variables(), CLIPS, mode)
    scores, rows = _alone()
    p = np.exp(scores.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    noise = mode.decide.inputs(mode.keys, FRAMES, 1)[..., 0]
    drawn = np.argsort(-(scores + noise), axis=1)[:, :CHOSEN]
    assert (np.sort(drawn) != np.sort(np.argsort(-scores)[:, :CHOSEN])).any(), "drawn, not best"
    given = found.outputs
    logs = set_log_probability(np.log(p), drawn)
    np.testing.assert_allclose(given["log_probability"], logs, atol=1e-4)
    np.testing.assert_allclose(given["entropy"], -(p * np.log(p)).sum(1), atol=1e-4)
    of_drawn = [_classified(rows[b, chosen]) for b, chosen in enumerate(drawn)]
    np.testing.assert_allclose(given["drawn_logits"], of_drawn, atol=1e-4)
    pairs = [(a, b) for a in range(2) for b in range(2, FRAMES)]
    for video in range(VIDEOS):
        segments = [_classified(rows[video, pair]) for pair in pairs]
        off = np.abs(np.stack(segments) - np.asarray(given["segment_logits"][video])).max(1)
        assert off.min() < 1e-4, "one frame of the first stretch and one of the second"


def test_in_the_samplers_stage_the_classifier_behaves_as_in_evaluation() -> None:
    stage, rows = METHOD.stages()["sampler"], _alone()[1]
    mode = METHOD.training_mode(stage, _keys(), Moment(jnp.int32(0), jnp.float32(0)))
    run = jax.jit(functools.partial(METHOD.predict_in_training, stage, mesh=None))
    found, stats = run(_variables(), {"frames": CLIPS}, mode)
    before = _variables()["batch_stats"]
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), stats[SKIM], before[SKIM])
    assert all(jax.tree.leaves(moved))
    jax.tree.map(np.testing.assert_array_equal, stats[MAIN], before[MAIN])
    drawn = np.asarray(found.decisions.one_hot[..., 0]) > 0
    expected = [_classified(rows[b, chosen]) for b, chosen in enumerate(drawn)]
    np.testing.assert_allclose(found.logits, expected, atol=1e-4)
    np.testing.assert_array_equal(drawn.sum(1), CHOSEN)


@pytest.mark.slow
def test_the_samplers_stage_trains_the_skim_network_alone() -> None:
    stage = METHOD.stages()["sampler"]
    optimizer = make_optimizer(
        OptimizerConfig(),
        optax.constant_schedule(0.1),
        _variables()["params"],
        part_of=lambda path: METHOD.part_of(stage, path),
        heads=METHOD.head_names(),
    )
    step = make_train_step(StageLoss(METHOD, stage, 5), optimizer, steps_per_epoch=2)
    ids = np.arange(VIDEOS, dtype=np.int32)
    batch = {"frames": CLIPS, "labels": LABELS, "example_id": ids, "epoch": ids}
    before = jax.tree.map(np.copy, _variables())
    start = TrainState.create(jax.tree.map(jnp.array, before), optimizer)
    state, metrics = step(start, jax.tree.map(jnp.asarray, batch))
    assert np.isfinite(float(metrics["loss"]))
    assert float(metrics["usage/24px"]) == pytest.approx(CHOSEN / FRAMES)
    after = jax.tree.map(np.asarray, state.variables)
    # It moves all candidates alike, so nothing depends on it.
    np.testing.assert_allclose(*(v["params"][SKIM]["head"].pop("bias") for v in (after, before)))
    for kind in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, after[kind][MAIN], before[kind][MAIN])
        moved = jax.tree.map(
            lambda a, b: bool(np.any(a != b)), after[kind][SKIM], before[kind][SKIM]
        )
        assert all(jax.tree.leaves(moved))


def test_stages_and_the_classifier_of_a_trained_uniform() -> None:
    config = load_config("activitynet:ocsampler,imagenet")
    method, (classifier, sampler) = config.build_method(), config.stages.values()
    assert config.stage_order == ("classifier", "sampler")
    assert (config.model.frames, config.data.num_frames, config.model.shift_div) == (5, 10, 10)
    assert config.model.head == "max_mlp"
    assert sampler.learning_rate == pytest.approx(0.005 * 48 / 320)
    assert method.separate_parts(classifier) == (MAIN,)
    assert method.part_of(classifier, (SKIM, "head")) == FROZEN
    assert method.part_of(sampler, (SKIM, "head")) == MODEL
    assert method.part_of(sampler, (MAIN, "head")) == FROZEN
    assert set(config.pretrained.weights) == {MAIN, SKIM}
    short = load_config("mini_kinetics:ocsampler").model
    assert (short.frames, short.skim) == (4, "mobilenet_v2_shift8")
    uniform = load_config("activitynet:uniform,max_mlp").build_method().variable_shapes()
    own = method.variable_shapes()
    _, taken = restore_partial(own, uniform)
    assert taken == len(jax.tree.leaves({kind: tree[MAIN] for kind, tree in own.items()}))


@pytest.mark.parametrize(
    ("model", "stage", "named"),
    [
        ({"frames": 0}, {}, "model.frames: must be at least 1"),
        ({"frames": 11}, {}, "model.frames: stage 'train' .* up to 10"),
        ({"shift_div": 1}, {}, "model.shift_div"),
        ({"skim_backbone": "resnet51"}, {}, "model.skim_backbone"),
        ({"skim_backbone": "efficientnet_b0"}, {}, "model.shift_div: .*no temporal shift"),
        ({"skim_resolution": 0}, {}, "model.skim_resolution"),
        ({"backbone": "resnet50_shift8"}, {}, "model.backbone: .*sees a video's frames together"),
        ({}, {"losses": {"accuracy": {}}}, "stages.train.losses"),
        ({}, {"losses": {"set_policy": {"entropy": -1.0}}}, "stages.train.losses.*entropy"),
    ],
)
def test_impossible_configs_are_refused_by_name(model: dict, stage: dict, named: str) -> None:
    values = {"model": model, "stage_order": ("train",), "stages": {"train": stage}}
    with pytest.raises(UserError, match=named):
        Config.from_dict({"method": "ocsampler", **values})


def test_uniform_beside_it_is_its_classifier_though_the_skim_network_sees_larger_frames() -> None:
    model = dataclasses.replace(MODEL_CONFIG, skim_resolution=2 * MODEL_CONFIG.resolution)
    uniform = uniform_of(OCSampler(model)).config
    assert (uniform.backbone, uniform.resolution) == (model.backbone, model.resolution)


def test_a_skim_network_without_a_shift() -> None:
    method = OCSampler(dataclasses.replace(MODEL_CONFIG, shift_div=0))
    assert method.networks()[SKIM].backbone == "resnet8_tiny"
    assert backbones.get(method.networks()[SKIM].backbone).per_frame
