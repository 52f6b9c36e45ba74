"""AdaFrame: where it looks, when it stops, what it makes of that, what it costs, how it learns."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.costs import total_gflops, usage_gflops
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import Model
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.losses import LossContext
from ar_net_jax.methods import FROZEN, MODEL, Moment, Prediction
from ar_net_jax.methods.adaframe import AdaFrame, AdaFrameConfig
from ar_net_jax.methods.adaframe_losses import Selection, Utility, margin_gains
from ar_net_jax.methods.adaframe_module import LSTM
from ar_net_jax.methods.adaframe_recurrence import AdaFrameRecurrence
from ar_net_jax.methods.uniform import Uniform, UniformConfig
from ar_net_jax.ops.resize import prepare_frames
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.training.stage_loss import StageLoss

VIDEOS, FRAMES, CLASSES, STEPS = 4, 7, 4, 4
SMALL = AdaFrameConfig(
    num_classes=CLASSES,
    backbone="resnet8_tiny",
    resolution=24,
    memory_backbone="resnet8_tiny",
    memory_resolution=16,
    memory_frames=4,
    steps=STEPS,
    hidden_size=6,
    utility_margin=0.2,
    patience=1,
)
METHOD = AdaFrame(SMALL)
LENGTHS = np.array([7, 1, 3, 6])
RNG = np.random.default_rng(0)
# Each frame of a colour of its own, so that features, and with them the places, differ.
COLOURS = RNG.integers(0, 200, (VIDEOS, FRAMES, 1, 1, 3))
CLIPS = (COLOURS + RNG.integers(0, 56, (VIDEOS, FRAMES, 24, 24, 3))).astype(np.uint8)
# Of the weights: at which places are gone back to, and some videos stop early.
SEED = 1


@functools.cache
def _variables() -> dict[str, Any]:
    """Random weights of a size at which features matter."""
    rng = np.random.default_rng(SEED)

    def fill(path: tuple[Any, ...], x: jax.ShapeDtypeStruct) -> np.ndarray:
        names = {part.key for part in path}
        if names & {"scale", "var"}:
            return rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
        size = 0.1 if x.ndim == 1 else np.prod(x.shape[:-1]) ** -0.5
        size *= 8 if names & {"location", "utility"} else 1
        return (rng.normal(size=x.shape) * size).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, METHOD.variable_shapes())


@functools.cache
def _model() -> Model:
    return Model(Config(method="adaframe", model=SMALL), _variables())


@functools.cache
def _features(module: str, resolution: int) -> np.ndarray:
    """Pooled features [B, T, D] of one of the networks, by a Uniform's module."""
    config = UniformConfig(num_classes=CLASSES, backbone="resnet8_tiny", resolution=resolution)
    weights = {kind: {"backbone_0": tree[module]} for kind, tree in _variables().items() if tree}

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


def _linear(name: str, x: np.ndarray) -> np.ndarray:
    weights = _variables()["params"]["recurrence"][name]
    return x @ np.float64(weights["kernel"]) + weights["bias"]


def _cell(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    own = _variables()["params"]["recurrence"]["lstm"]
    gates = x @ np.float64(own["kernel_ih"]) + h @ np.float64(own["kernel_hh"])
    i, f, g, o = np.split(gates + own["bias_ih"] + own["bias_hh"], 4)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _memory(video: int, length: int) -> np.ndarray:
    parts = min(length, SMALL.memory_frames)
    places = [int((j + 0.5) * length / parts) for j in range(parts)]
    slots = _features("memory", 16)[video, places]
    j, width = np.arange(parts)[:, None], slots.shape[1]
    angles = j / 10_000 ** (np.arange(0, width, 2) / width)
    slots[:, 0::2] += np.sin(angles)
    slots[:, 1::2] += np.cos(angles)
    return slots


def _walk(video: int, length: int, given: list[int] | None = None) -> tuple[list[int], np.ndarray]:
    """The places that a video's steps look at, and its logits."""
    memory, best, falls, places = _memory(video, length), -np.inf, 0, []
    h = c = np.zeros(SMALL.hidden_size)
    place = length // 2 if given is None else given[0]
    for step in range(STEPS if given is None else len(given)):
        places.append(place)
        weights = np.exp(memory @ _linear("query", h))
        context = weights / weights.sum() @ memory
        h, c = _cell(np.concatenate([_features("backbone_0", 24)[video, place], context]), h, c)
        utility = _linear("utility", h)[0]
        best = max(best, utility)
        falls += best - utility > SMALL.utility_margin
        if given is None and falls >= SMALL.patience:
            break
        if given is None:
            place = round(_sigmoid(_linear("location", h)[0]) * (length - 1))
        elif step + 1 < len(given):
            place = given[step + 1]
    return places, _linear("classifier", h)


@pytest.mark.parametrize("lengths", [np.full(VIDEOS, FRAMES), LENGTHS], ids=["whole", "padded"])
def test_it_walks_as_in_numpy_and_computes_only_what_it_looks_at(lengths: np.ndarray) -> None:
    whole = (lengths == FRAMES).all()
    walks = [_walk(video, length) for video, length in enumerate(lengths)]
    actions = np.where(np.arange(FRAMES) < lengths[:, None], 1, -1)
    for row, (places, _) in zip(actions, walks):
        row[places] = 0
    steps = [len(places) for places, _ in walks]
    distinct = [len(set(places)) for places, _ in walks]
    remembered = np.minimum(lengths, SMALL.memory_frames)
    kinds = {"routed": {"chunks": (1,)}} | ({"masked": {"routing": "masked"}} if whole else {})
    for name, kind in kinds.items():
        found = _model()(CLIPS, num_frames=None if whole else lengths, **kind)
        np.testing.assert_array_equal(found.actions, actions, err_msg=name)
        np.testing.assert_allclose(found.logits, [logits for _, logits in walks], atol=1e-4)
        np.testing.assert_array_equal(found.calls["24px"], distinct)
        np.testing.assert_array_equal(found.calls[LSTM], steps)
        np.testing.assert_array_equal(found.calls["memory"], remembered)
        if name == "masked":
            assert found.executed["24px"] == VIDEOS * FRAMES
        else:
            assert found.executed["24px"] == sum(distinct), "no frame twice"
            assert found.executed["memory"] == remembered.sum()
            assert found.executed[LSTM] == VIDEOS * max(steps)
    if whole:
        assert len(set(steps)) > 1, "some stop early"
        assert distinct != steps, "some go back to a frame"
        assert len({tuple(places) for places, _ in walks}) > 1


def test_a_video_by_itself_is_computed_frame_by_frame() -> None:
    """Chunks of more frames than a step looks at would be filled up with work for nothing."""
    frames = CLIPS[:1]
    found = _model()(frames, chunks=(4, 2))
    assert found.executed["24px"] == len(set(_walk(0, FRAMES)[0]))


def _keys(count: int) -> jax.Array:
    return example_keys(0, jnp.zeros(count, jnp.int32), jnp.arange(count))


def test_imposed_frames_are_looked_at_in_order_however_many() -> None:
    actions = np.array([[1, 0, 1, 1, 0, 1, 1], [1] * 7, [0, 0, 0, 0, 0, 1, 0], [1] * 6 + [0]])
    request = Request(CLIPS, _keys(VIDEOS), forced_actions=actions)
    found = make_inference(METHOD, chunks=(1,))(_model().variables, request, jnp.float32(0.0))
    np.testing.assert_array_equal(found.actions, actions)
    for video, row in enumerate(actions):
        places = np.flatnonzero(row == 0).tolist()
        expected = _walk(video, FRAMES, places)[1] if places else np.zeros(CLASSES)
        np.testing.assert_allclose(found.logits[video], expected, atol=1e-4)
    assert int(found.executed["24px"][0]) == (actions == 0).sum()


def test_the_newer_head_classifies_the_maximum_of_the_states_so_far() -> None:
    module = AdaFrameRecurrence(3, 2, 5, CLASSES, "max_mlp", 4096)
    rng = np.random.default_rng(2)
    hidden = rng.normal(size=(2, 3, 5)).astype(np.float32)
    walked = np.array([[True] * 3, [True, True, False]])
    variables = module.init(jax.random.key(0), hidden, walked, method="classify")
    found = module.apply(variables, hidden, walked, method="classify")
    params, stats = variables["params"], variables["batch_stats"]["embedding"]["norm"]
    rows = hidden @ params["embedding"]["kernel"]
    rows = np.maximum((rows - stats["mean"]) / np.sqrt(stats["var"] + 1e-5), 0)
    for video, step in ((0, 0), (0, 2), (1, 1)):
        expected = rows[video, : step + 1].max(0) @ params["classifier"]["kernel"]
        np.testing.assert_allclose(found[video, step], expected, atol=1e-4)
    np.testing.assert_allclose(found[1, 2], found[1, 1], atol=1e-6), "a step that was not taken"


# --- Costs and words ----------------------------------------------------------------------------


def test_costs_at_the_papers_sizes() -> None:
    """16 x .08 + n x (7.8 + LSTM), counted as multiply-accumulates."""
    method = AdaFrame(AdaFrameConfig(num_classes=200))
    networks = method.networks()
    step = 4 * 1024 * (3328 + 1024) + 1024 * 1280 + 2 * 16 * 1280 + 1024 * 202
    assert networks[LSTM].gflops("macs") == pytest.approx(step / 1e9, rel=1e-9)
    assert networks["memory"].gflops("macs") == pytest.approx(0.0812, abs=5e-5, rel=2e-2)
    heavy = networks["224px"].gflops("macs")
    assert heavy == pytest.approx(7.80, abs=0.005)
    calls = {"memory": 16, "224px": 8.65, LSTM: 8.65}
    expected = 16 * networks["memory"].gflops("macs") + 8.65 * (heavy + step / 1e9)
    assert total_gflops(networks, calls, "macs") == pytest.approx(expected)
    assert expected == pytest.approx(16 * 0.08 + 8.65 * (7.82 + 0.0178), rel=0.005)


@pytest.mark.parametrize(("frames", "remembered"), [(8, 8), (16, 16), (128, 16)])
def test_usage_counts_the_memory_once_a_video(frames: int, remembered: int) -> None:
    method = AdaFrame(AdaFrameConfig(num_classes=200))
    usage = np.array([4 / frames, 1 - 4 / frames])
    calls = {"memory": remembered, "224px": 4, LSTM: 4}
    found = usage_gflops(method.networks(), method.choices, usage, "macs", frames)
    assert found == pytest.approx(total_gflops(method.networks(), calls, "macs"))


def test_how_it_is_told() -> None:
    assert [METHOD.tell(choice) for choice in range(2)] == ["24 px", "not looked at"]
    assert [METHOD.side_of(choice) for choice in range(2)] == [24, 0]
    with pytest.raises(UserError, match="goes back and forth"):
        METHOD.stream({})


@pytest.mark.parametrize(
    ("model", "losses", "named"),
    [
        ({"steps": 1}, {}, "model.steps"),
        ({"patience": 0}, {}, "model.patience"),
        ({"utility_margin": -1.0}, {}, "model.utility_margin"),
        ({"memory_backbone": "resnet51"}, {}, "model.memory_backbone"),
        ({"memory_frames": 0}, {}, "model.memory_frames"),
        ({}, {"selection": {"discount": 1.5}}, "stages.joint.losses.selection.discount"),
        ({}, {"efficiency": {}}, "stages.joint.losses.efficiency"),
    ],
)
def test_impossible_configs_are_refused_by_name(model: dict, losses: dict, named: str) -> None:
    stages = {"joint": {"losses": {"accuracy": {}, **losses}}}
    values = {"model": model, "stage_order": ("joint",), "stages": stages}
    with pytest.raises(UserError, match=named):
        Config.from_dict({"method": "adaframe", **values})


# --- Training -----------------------------------------------------------------------------------


def test_a_gain_is_what_surpasses_the_highest_margin_so_far() -> None:
    logits = RNG.normal(size=(3, 5, CLASSES)).astype(np.float32) * 2
    labels = np.array([0, 2, 3])
    found = margin_gains(jnp.asarray(logits), jnp.asarray(labels))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for video, label in enumerate(labels):
        others = np.delete(shares[video], label, axis=1).max(1)
        margins = shares[video, :, label] - others
        expected = [max(0, margins[t] - margins[:t].max()) for t in range(1, 5)]
        np.testing.assert_allclose(found[video], expected, atol=1e-6)
    assert (np.asarray(found) > 0).any() and (np.asarray(found) == 0).any()


def test_losses_are_the_closed_forms_and_have_no_other_gradient() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(2, 3, CLASSES)).astype(np.float32)
    utility, log_probability = rng.normal(size=(2, 2, 2)).astype(np.float32)
    labels = np.array([[1, -1], [0, 2]])
    gains = np.asarray(margin_gains(jnp.asarray(logits), jnp.asarray(labels[:, 0])))
    returns = np.stack([gains[:, 0] + 0.5 * gains[:, 1], gains[:, 1]], axis=1)
    context = LossContext(labels, jnp.zeros(2))

    def run(loss: Any, logits: Any, utility: Any, log_probability: Any) -> jax.Array:
        outputs = {
            "step_logits": logits,
            "utility": utility,
            "step_log_probability": log_probability,
        }
        return loss(Prediction(logits[:, -1], {}, {}, outputs=outputs), context)

    given = tuple(jnp.asarray(x) for x in (logits, utility, log_probability))
    for loss, value, slopes in (
        (
            Utility(discount=0.5),
            np.mean((utility - returns) ** 2) / 2,
            (0 * logits, (utility - returns) / 4, 0 * utility),
        ),
        (
            Selection(discount=0.5),
            -np.mean((returns - utility) * log_probability),
            (0 * logits, 0 * utility, (utility - returns) / 4),
        ),
    ):
        both = jax.jit(jax.value_and_grad(functools.partial(run, loss), (0, 1, 2)))
        found, gradients = both(*given)
        assert float(found) == pytest.approx(value, abs=1e-6)
        for gradient, slope in zip(gradients, slopes):
            np.testing.assert_allclose(gradient, slope, atol=1e-6)


BATCH = {
    "frames": jnp.asarray(CLIPS),
    "labels": jnp.array([[0, -1], [1, -1], [2, -1], [3, -1]]),
    "epoch": jnp.zeros(VIDEOS, jnp.int32),
    "example_id": jnp.arange(VIDEOS),
}


@pytest.mark.slow
def test_a_joint_stage_trains_all_but_the_networks() -> None:
    variables, moment = _variables(), Moment(jnp.int32(0), jnp.float32(0.0))
    loss = StageLoss(METHOD, AdaFrame.stages()["joint"], 0)
    grad = jax.jit(jax.grad(loss, has_aux=True))
    gradient, (metrics, _) = grad(variables["params"], variables["batch_stats"], BATCH, moment)
    sizes = {name: sum(abs(x).sum() for x in jax.tree.leaves(g)) for name, g in gradient.items()}
    assert sizes["backbone_0"] == sizes["memory"] == 0 < sizes["recurrence"]
    for head in ("query", "location", "utility", "classifier"):
        assert abs(gradient["recurrence"][head]["kernel"]).max() > 0, head
    terms = [metrics[f"loss/{name}"] for name in ("accuracy", "utility", "selection")]
    assert float(metrics["loss"]) == pytest.approx(sum(map(float, terms)), rel=1e-5)


def test_even_locations_teach_the_policy_nothing_and_no_step_is_left_out() -> None:
    stage = AdaFrame.stages()["random"]
    mode = METHOD.training_mode(stage, _keys(VIDEOS), None)

    def run(variables: Any) -> Prediction:
        return METHOD.predict_in_training(stage, variables, BATCH, mode, None)[0]

    found = jax.jit(run)(_variables())
    np.testing.assert_array_equal(found.outputs["step_log_probability"], 0)
    np.testing.assert_array_equal(found.calls[LSTM], STEPS)
    np.testing.assert_array_equal(found.logits, found.outputs["step_logits"][:, -1])


def test_drawn_locations_are_normal_about_the_mean() -> None:
    module = METHOD.module()
    count = 400
    mask = np.ones((count, FRAMES), bool)

    def course(locations: str) -> Any:
        mode = METHOD.training_mode(AdaFrame.stages()["joint"], _keys(count), None)
        counts = jnp.full(count, FRAMES)
        return module.apply({}, mask, counts, mode, locations, method="_course")

    drawn = np.asarray(course("policy").noise)
    assert drawn.shape == (count, STEPS)
    assert drawn.std() == pytest.approx(0.1, rel=0.05) and abs(drawn.mean()) < 0.01
    even = np.asarray(course("uniform").locations)
    assert 0 <= even.min() < 0.01 and 0.99 < even.max() < 1
    assert even.mean() == pytest.approx(0.5, abs=0.03)


def test_the_usual_training_is_networks_then_classifier_then_policy() -> None:
    config = load_config("activitynet:adaframe,imagenet")
    method = config.build_method()
    assert config.stage_order == ("warmup", "random", "joint")
    stages = config.stages
    assert method.separate_parts(stages["warmup"]) == ("backbone_0", "memory")
    assert stages["random"].locations == "uniform" and stages["random"].select == "last"
    for path, part in ((("backbone_0", "head"), FROZEN), (("recurrence", "lstm"), MODEL)):
        assert method.part_of(stages["joint"], path) == part
    assert list(config.pretrained.weights) == ["backbone_0", "memory"]
