"""AdaFocusV2: where it looks, what it makes of that, where videos end, what it costs and learns."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_crop import _by_scipy
from test_gru import gru_step

from ar_net_jax import backbones
from ar_net_jax.costs import total_gflops
from ar_net_jax.costs.counting import count_macs
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import Model
from ar_net_jax.inference.step import Request, Result, make_inference
from ar_net_jax.losses import LossContext
from ar_net_jax.methods import Moment
from ar_net_jax.methods.adafocus_v2 import AdaFocusV2, AdaFocusV2Config
from ar_net_jax.methods.glance_focus import Focus
from ar_net_jax.methods.uniform import uniform_of
from ar_net_jax.modules.crop_policy import CropPolicy, crop_policy_macs
from ar_net_jax.modules.step_classifier import StepClassifier, step_classifier_macs
from ar_net_jax.ops.frame_order import coarse_to_fine
from ar_net_jax.ops.resize import nearest_indices, prepare_frames
from ar_net_jax.ops.rng import example_keys

VIDEOS, FRAMES, CLASSES, SIDE, CROP = 3, 4, 5, 24, 16
MODEL = AdaFocusV2Config(
    num_classes=CLASSES,
    backbone="resnet8_tiny",
    resolution=SIDE,
    crop=CROP,
    glance_backbone="resnet8_tiny",
    glance_resolution=16,
    steps=3,
    policy_width=4,
    policy_hidden=6,
)
LENGTHS = np.array([4, 1, 3])
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 200, (VIDEOS, FRAMES, 1, 1, 3))
CLIPS = (COLOURS + RNG.integers(0, 56, (VIDEOS, FRAMES, SIDE, SIDE, 3))).astype(np.uint8)


def fill_at_random(shapes: Any) -> dict[str, Any]:
    """Random weights of a size at which features matter."""
    rng = np.random.default_rng(3)

    def fill(path: tuple[Any, ...], x: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
        size = 0.1 if x.ndim == 1 else 1.5 * np.prod(x.shape[:-1]) ** -0.5
        return (rng.normal(size=x.shape) * size).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


@functools.cache
def _variables() -> dict[str, Any]:
    return fill_at_random(AdaFocusV2(MODEL).variable_shapes())


@functools.cache
def _model(**changes: Any) -> Model:
    config = dataclasses.replace(MODEL, **changes)
    return Model(Config(method="adafocus_v2", model=config), _variables())


@functools.cache
def _run() -> Any:
    """The dense form, from frames to what it gives besides the prediction."""
    module = AdaFocusV2(MODEL).module()
    return jax.jit(lambda frames: module.apply(_variables(), frames).outputs)


@functools.cache
def _outputs() -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in _run()(CLIPS).items()}


@functools.cache
def _map(module: str) -> Any:
    """The last map of one of the networks, of normalised frames [N, S, S, 3]."""
    weights = {kind: tree[module]["backbone"] for kind, tree in _variables().items()}
    network = backbones.get("resnet8_tiny").module()
    return jax.jit(lambda x: network.apply(weights, x, method="feature_map"))


def _norm(x: np.ndarray, path: tuple[str, ...]) -> np.ndarray:
    found = [functools.reduce(lambda t, k: t[k], path, tree) for tree in _variables().values()]
    values = {name: np.float64(v) for tree in found for name, v in tree.items()}
    scaled = (x - values["mean"]) / np.sqrt(values["var"] + 1e-5)
    return scaled * values["scale"] + values["bias"]


def _expected() -> tuple[np.ndarray, np.ndarray]:
    """Boxes' corners [B, T, 2] and logits [B, T, C], written out frame by frame in NumPy."""
    params = _variables()["params"]
    policy, classifier = params["policy"], params["classifier"]
    encoder, at, place = policy["encoder"], ("policy", "encoder"), policy["place"]
    small = nearest_indices(SIDE, 16)
    corners = np.zeros((VIDEOS, FRAMES, 2))
    logits = np.zeros((VIDEOS, FRAMES, CLASSES))
    for video in range(VIDEOS):
        hidden, maximum = np.zeros(6), np.zeros(4096)
        for t in range(FRAMES):
            frame = CLIPS[video, t]
            whole = prepare_frames(frame[small][:, small][None], 16)
            seen = np.float64(_map("glance")(whole))[0]
            x = np.tanh(_norm(seen @ encoder["kernel_squeeze"], (*at, "norm_squeeze")))
            x = np.tanh(_norm(x.reshape(-1) @ encoder["kernel"], (*at, "norm")))
            hidden = gru_step(policy["gru"], hidden, x)
            share = 1 / (1 + np.exp(-(hidden @ place["kernel"] + place["bias"])))
            corners[video, t] = share * (SIDE - CROP)
            part = _by_scipy(frame, np.array([*corners[video, t], CROP, CROP]), CROP)
            focused = np.float64(_map("focus")(prepare_frames(np.float32(part)[None], CROP)))[0]
            both = np.concatenate([seen.mean((0, 1)), focused.mean((0, 1))])
            row = both @ classifier["embedding"]["kernel"]
            row = np.maximum(_norm(row, ("classifier", "embedding", "norm")), 0)
            maximum = np.maximum(maximum, row)
            step, linear = min(t, MODEL.steps - 1), classifier["linear"]
            logits[video, t] = maximum @ linear["kernel"][step] + linear["bias"][step]
    return corners, logits


def _keys() -> jax.Array:
    order = jnp.arange(VIDEOS)
    return example_keys(0, jnp.zeros_like(order), order)


# --- What it sees -------------------------------------------------------------------------------


def test_it_is_the_plain_loop_over_frames() -> None:
    corners, logits = _expected()
    found = _outputs()
    np.testing.assert_allclose(found["boxes"][..., :2], corners, atol=1e-4)
    np.testing.assert_array_equal(found["boxes"][..., 2:], CROP)
    np.testing.assert_allclose(found["step_logits"][:, 0], logits, atol=1e-3)
    assert corners.std() > 0.3, "it does not look at the same place of every frame"
    assert _outputs()["glance_logits"].shape == (VIDEOS, FRAMES, CLASSES)


def test_only_frames_that_are_there_are_computed() -> None:
    routed = _model()(CLIPS, num_frames=LENGTHS, chunks=(1,))
    expected = _outputs()["step_logits"][np.arange(VIDEOS), 0, LENGTHS - 1]
    np.testing.assert_allclose(routed.logits, expected, atol=1e-4)
    np.testing.assert_array_equal(routed.calls["focus"], LENGTHS)
    assert (routed.executed["glance"], routed.executed["focus"]) == (8, 8)


def test_from_coarse_to_fine_it_is_the_same_on_frames_in_that_order() -> None:
    found = _model(order="coarse_to_fine")(CLIPS, routing="masked")
    same = _run()(CLIPS[:, list(coarse_to_fine(FRAMES))])["step_logits"][:, 0, -1]
    np.testing.assert_allclose(found.logits, same, atol=1e-5)


# --- Where videos end ---------------------------------------------------------------------------


def _confidences() -> np.ndarray:
    """After each frame of each video, [B, T]."""
    logits = np.float64(_outputs()["step_logits"][:, 0])
    chances = np.exp(logits - logits.max(-1, keepdims=True))
    return (chances / chances.sum(-1, keepdims=True)).max(-1)


def _thresholds() -> tuple[float, ...]:
    """By which one video ends after its first frame, one more after its second, none later."""
    found = _confidences()
    first = int(found[:, 0].argmax())
    others = [found[video, 1] for video in range(VIDEOS) if video != first]
    return (found[first, 0] - 1e-4, max(others) - 1e-4, 2.0)


def _last_looks() -> np.ndarray:
    """The last frame of each video, found by going through its frames."""
    limits = (*_thresholds(), 0.0)
    return np.array([next(t for t in range(4) if row[t] >= limits[t]) for row in _confidences()])


@functools.cache
def _ended(routing: str) -> Result:
    return _model(exit=_thresholds())(CLIPS, routing=routing, chunks=(1,))


def test_a_video_ends_once_it_is_confident_and_no_frame_after_is_computed() -> None:
    masked, routed, last = _ended("masked"), _ended("routed"), _last_looks()
    assert len(set(last.tolist())) > 1, "not all videos end at one place"
    assert last.min() < 3
    for result in (masked, routed):
        np.testing.assert_array_equal(result.actions, np.arange(FRAMES) > last[:, None])
        expected = _outputs()["step_logits"][np.arange(VIDEOS), 0, last]
        np.testing.assert_allclose(result.logits, expected, atol=1e-4)
        np.testing.assert_array_equal(result.calls["glance"], last + 1)
    computed = last.sum() + VIDEOS
    assert (routed.executed["glance"], routed.executed["focus"]) == (computed, computed)
    assert routed.executed["policy"] == VIDEOS * (last.max() + 1), "in groups of all videos"


def test_confidences_are_what_thresholds_are_found_on() -> None:
    found = AdaFocusV2(MODEL).step_confidences()(_variables(), CLIPS)
    np.testing.assert_allclose(found, _confidences(), rtol=1e-4)


def test_imposed_frames_are_looked_at_and_none_else() -> None:
    actions = np.array([[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    model = _model(exit=(0.0,))
    request = Request(CLIPS, _keys(), forced_actions=actions)
    result = make_inference(model.method, chunks=(1,))(model.variables, request, jnp.float32(0))
    np.testing.assert_array_equal(result.actions, actions)
    assert result.executed["focus"][0] == 6
    np.testing.assert_allclose(result.logits[2], _outputs()["step_logits"][2, 0, -1], atol=1e-4)
    np.testing.assert_array_equal(result.logits[1], 0)


# --- The control --------------------------------------------------------------------------------


def test_random_parts_are_drawn_by_keys_and_have_nothing_of_the_policy() -> None:
    method = AdaFocusV2(MODEL)
    infer = make_inference(method, random_crops=True, chunks=(1,))

    def classify(keys: jax.Array, factor: float = 1.0) -> np.ndarray:
        params = _variables()["params"]
        policy = jax.tree.map(lambda x: factor * x, params["policy"])
        variables = _variables() | {"params": params | {"policy": policy}}
        return np.asarray(infer(variables, Request(CLIPS, keys), jnp.float32(0)).logits)

    found = classify(_keys())
    np.testing.assert_array_equal(classify(_keys(), 3.0), found)
    assert np.abs(classify(_keys()[::-1]) - found).max() > 1e-2
    assert np.abs(found - _outputs()["step_logits"][:, 0, -1]).max() > 1e-2
    assert method.traits.crops


def test_the_control_for_exits_gives_each_video_the_frames_of_another() -> None:
    method = AdaFocusV2(dataclasses.replace(MODEL, exit=(0.5,), order="coarse_to_fine"))
    first, actions = coarse_to_fine(5), np.ones((4, 5), np.int32)
    for video, count in enumerate((1, 2, 4, 5)):
        actions[video, list(first[:count])] = 0
    actions[:2] = [[1, 1, 0, 1, -1], [0, 1, 0, 1, -1]]
    seen = set()
    for seed in range(20):
        mixed = method.control_actions(actions, np.random.default_rng(seed))
        np.testing.assert_array_equal(mixed < 0, actions < 0)
        for row, count in zip(mixed, (mixed == 0).sum(1)):
            there = [place for place in first if row[place] >= 0]
            assert sorted(np.flatnonzero(row == 0)) == sorted(there[:count])
        seen.add(tuple((mixed == 0).sum(1).tolist()))
    assert len(seen) > 5
    assert all(sorted(counts) in ([1, 2, 4, 5], [1, 2, 4, 4]) for counts in seen)


# --- Costs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "frame", "video"), [(96, 1.100, 17.6), (128, 1.684, 27.0), (160, 2.435, 39.0)]
)
def test_costs_are_the_published_ones(side: int, frame: float, video: float) -> None:
    """16 frames of the default model, of 200 classes, by parts."""
    method = AdaFocusV2(AdaFocusV2Config(crop=side))
    networks = method.networks()
    parts = {name: network.gflops("macs") for name, network in networks.items()}
    focus = {96: 0.7507, 128: 1.3346, 160: 2.0853}[side]
    expected = {"glance": 0.2995, "focus": focus, "policy": 0.0356, "classifier": 0.0145}
    assert parts == pytest.approx(expected, abs=1.5e-3)
    assert method.choice_gflops("macs").tolist() == pytest.approx([frame], abs=2e-3)
    total = total_gflops(networks, dict.fromkeys(networks, 16.0), "macs")
    assert total == pytest.approx(video, abs=0.06)
    beside = uniform_of(method).config
    assert (beside.backbone, beside.resolution) == ("resnet50", 224)


def test_policy_and_classifier_are_counted_as_they_run() -> None:
    key = jax.eval_shape(jax.random.key, 0)
    policy, classifier = CropPolicy(4, 6), StepClassifier(9, 3, 5, 0.2)
    yes = jnp.ones((1, 1), bool)

    def decide(key: jax.Array) -> Any:
        args = jnp.zeros((1, 1, 2, 2, 8)), jnp.zeros((1, 6)), yes
        return policy.init_with_output(key, *args, train=False)[0]

    def classify(key: jax.Array) -> Any:
        args = jnp.zeros((1, 1, 9)), jnp.zeros((1, 4096)), yes
        return classifier.init_with_output(key, *args)[0]

    assert count_macs(decide, key) == crop_policy_macs(2, 8, 4, 6)
    assert count_macs(classify, key) == step_classifier_macs(9, 5)


# --- Configs and training -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({"crop": 225}, "model.crop"),
        ({"glance_resolution": 256}, "model.glance_resolution"),
        ({"glance_backbone": "convnext_tiny"}, "model.glance_backbone: .*no feature map"),
        ({"head": "mean"}, "model.head"),
        ({"backbone": "resnet50_shift8"}, "model.backbone: .*together"),
        ({"exit": (0.5, -1.0)}, r"model.exit\[1\]"),
        ({"policy_hidden": 0}, "model.policy_hidden"),
    ],
)
def test_impossible_configs_are_refused_by_name(model: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        Config.from_dict({"method": "adafocus_v2", "model": model})
    with pytest.raises(UserError, match="stages.train.rates.policy"):
        stages = {"train": {"rates": {"policy": -1.0}}}
        Config.from_dict({"method": "adafocus_v2", "stages": stages})


def test_the_usual_training_is_one_stage_with_a_rate_for_each_part() -> None:
    config = load_config("activitynet:adafocus_v2,imagenet")
    method, stage = config.build_method(), config.stages["train"]
    assert (stage.epochs, stage.learning_rate, stage.schedule) == (50, 0.002, "cosine")
    assert set(config.pretrained.weights) == {"glance", "focus"}
    assert config.optimizer.head_multiplier == config.optimizer.bias_multiplier == 1
    rates = {name: method.rate_of(stage, (name, "x")) for name in method.networks()}
    assert rates == {"policy": 0.1, "glance": 0.5, "focus": 1.0, "classifier": 5.0}


@functools.cache
def _gradients() -> tuple[Any, dict[str, Any], Any]:
    """Outputs in training, gradients of the heavy network's own loss, and new statistics."""
    method = AdaFocusV2(dataclasses.replace(MODEL, dropout=0.0))
    (stage,) = AdaFocusV2.stages().values()
    mode = method.training_mode(stage, _keys(), Moment(jnp.int32(0), jnp.float32(0)))
    context = LossContext(jnp.array([[0, -1], [1, 2], [3, -1]]), jnp.zeros(1))
    stats = _variables()["batch_stats"]

    def run(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": stats}
        batch = {"frames": jnp.asarray(CLIPS)}
        prediction, new = method.predict_in_training(stage, variables, batch, mode, None)
        return Focus()(prediction, context), (prediction.outputs, new)

    gradients, (outputs, new) = jax.jit(jax.grad(run, has_aux=True))(_variables()["params"])
    return outputs, gradients, new


def largest(tree: Any) -> float:
    """The largest magnitude in a tree of arrays."""
    return max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(tree))


def test_the_policy_learns_through_the_place_and_its_gradient_stops_at_the_map() -> None:
    _, gradients, _ = _gradients()
    assert largest(gradients["focus"]) > 1e-6
    assert largest(gradients["policy"]) > 1e-6
    assert largest(gradients["glance"]) == 0


def test_training_goes_twice_over_the_parts_and_once_over_the_frames() -> None:
    outputs, _, new = _gradients()
    assert outputs["step_logits"].shape == (VIDEOS, 2, FRAMES, CLASSES)
    assert outputs["focus_logits"].shape == (VIDEOS, 2, FRAMES, CLASSES)
    assert outputs["glance_logits"].shape == (VIDEOS, FRAMES, CLASSES)
    first, second = outputs["focus_logits"][:, 0], outputs["focus_logits"][:, 1]
    assert float(jnp.abs(first - second).max()) > 1e-3
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), new, _variables()["batch_stats"])
    assert min(jax.tree.leaves(moved)) > 0
