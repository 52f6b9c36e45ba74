"""The head `max_mlp` of every method against plain NumPy, and that `mean` is as it was."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.costs import total_gflops
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.model import Model
from ar_net_jax.methods import Method, Mode, ModelConfig, Moment
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig, ARNetStage
from ar_net_jax.methods.lstm import LSTM, LSTMConfig
from ar_net_jax.methods.multi_scale import MultiScale, MultiScaleConfig
from ar_net_jax.methods.scsampler import SCSampler, SCSamplerConfig
from ar_net_jax.methods.uniform import Uniform, UniformConfig
from ar_net_jax.modules.policy import PolicyConfig
from ar_net_jax.ops.frame_order import back_in_time, coarse_to_fine, coarse_to_fine_of_each
from ar_net_jax.ops.pooling import kept_maximum, maximum_over_frames, running_maximum
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.weights.released.export import export_released

VIDEOS, FRAMES, CLASSES, SIZE, WIDTH = 2, 4, 3, 16, 4096
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 200, (VIDEOS, FRAMES, 1, 1, 3))
CLIPS = (COLOURS + RNG.integers(0, 56, (VIDEOS, FRAMES, SIZE, SIZE, 3))).astype(np.uint8)
LENGTHS = np.array([4, 2])
ONE: dict[str, Any] = {"num_classes": CLASSES, "backbone": "resnet8_tiny", "resolution": SIZE}
MANY: dict[str, Any] = {
    "num_classes": CLASSES,
    "resolutions": (16, 12),
    "backbones": ("resnet8_tiny",),
    "policy": PolicyConfig("resnet8_tiny", 12, hidden_size=8),
}
METHODS: dict[str, Method] = {
    "uniform": Uniform(UniformConfig(**ONE, head="max_mlp")),
    "lstm": LSTM(LSTMConfig(**ONE, hidden_size=8, head="max_mlp")),
    "scsampler": SCSampler(
        SCSamplerConfig(
            **ONE,
            sampler_backbone="resnet8_tiny",
            sampler_resolution=12,
            frames=2,
            head="max_mlp",
        )
    ),
    "ar_net": ARNet(ARNetConfig(**MANY, skips=(1, 2), head="max_mlp")),
    "multi_scale": MultiScale(MultiScaleConfig(**MANY, head="max_mlp")),
}


@functools.cache
def _variables(name: str) -> dict[str, Any]:
    """Random weights of a size at which features matter."""
    rng = np.random.default_rng(3)

    def fill(path: tuple[Any, ...], x: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
        size = 0.1 if x.ndim == 1 else np.prod(x.shape[:-1]) ** -0.5
        return (rng.normal(size=x.shape) * size).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, METHODS[name].variable_shapes())


@functools.cache
def _model(name: str) -> Model:
    method = METHODS[name]
    return Model(Config(method=method.name, model=method.config), _variables(name))


# --- Maxima and the order of frames -------------------------------------------------------------


def test_a_maximum_is_over_kept_frames_and_teaches_the_decision_about_the_one_that_attains_it() -> (
    None
):
    embeddings = RNG.uniform(0.1, 1.0, (3, 4, 2, 5)).astype(np.float32)
    weights = np.zeros((3, 4, 2), np.float32)
    weights[0, [0, 2], [1, 0]] = 1
    weights[1] = 1  # Both networks on every frame.
    expected = [
        np.maximum(embeddings[0, 0, 1], embeddings[0, 2, 0]),
        embeddings[1].mean(1).max(0),
        np.zeros(5),
    ]
    np.testing.assert_allclose(kept_maximum(embeddings, weights), expected, atol=1e-6)
    slope = jax.grad(lambda w: kept_maximum(embeddings, w).sum())(weights)
    first_wins = embeddings[0, 0, 1] > embeddings[0, 2, 0]
    for network in range(2):
        np.testing.assert_allclose(
            slope[0, 0, network], (embeddings[0, 0, network] * first_wins).sum(), rtol=1e-5
        )
    assert not slope[0, [1, 3]].any()


def test_a_maximums_gradient_is_of_the_first_frame_that_attains_it() -> None:
    rows = np.array([[[1.0, 0.0], [3.0, 0.0], [3.0, -1.0]]], np.float32)
    value, pull = jax.vjp(jax.jit(maximum_over_frames), rows)
    np.testing.assert_array_equal(value, rows.max(1))
    slope = np.array([[5.0, 7.0]], np.float32)
    expected = np.zeros_like(rows)
    expected[0, 1, 0], expected[0, 0, 1] = 5, 7
    np.testing.assert_array_equal(pull(slope)[0], expected)


def test_a_running_maximum_leaves_out_what_is_masked() -> None:
    embeddings = RNG.uniform(0, 1, (2, 5, 3)).astype(np.float32)
    mask = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1]], bool)
    expected = np.maximum.accumulate(embeddings * mask[..., None], axis=1)
    np.testing.assert_array_equal(running_maximum(embeddings, mask), expected)


def test_the_order_of_ten_frames_is_the_published_one() -> None:
    assert coarse_to_fine(10) == (5, 0, 9, 2, 7, 4, 6, 3, 8, 1)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 16, 25])
def test_an_order_visits_every_frame_once_and_the_widest_gap_next(length: int) -> None:
    order = coarse_to_fine(length)
    assert sorted(order) == list(range(length)) and order[0] == length // 2
    assert set(order[:3]) == {length // 2, 0, length - 1}
    for place in range(3, length):
        seen, frame = sorted(order[:place]), order[place]
        widths = np.diff(seen)
        gap = np.searchsorted(seen, frame) - 1
        assert widths[gap] == widths.max()
        assert abs((frame - seen[gap]) - (seen[gap + 1] - frame)) <= 1, "its middle"
    clip = np.arange(100, 100 + length)
    np.testing.assert_array_equal(clip[list(order)][back_in_time(order)], clip)


def test_each_video_has_the_order_of_its_own_length() -> None:
    lengths = np.array([5, 2, 1, 4])
    found = coarse_to_fine_of_each(jnp.asarray(np.arange(5) < lengths[:, None]))
    for row, length in zip(np.asarray(found), lengths):
        assert tuple(row) == (*coarse_to_fine(int(length)), *range(length, 5))


# --- The head -----------------------------------------------------------------------------------


def _embedded(variables: dict[str, Any], path: tuple[str, ...], features: np.ndarray) -> np.ndarray:
    """The layer before the classifier, in plain NumPy."""
    params, stats = (
        functools.reduce(lambda tree, name: tree[name], path, variables[kind])["embedding"]
        for kind in ("params", "batch_stats")
    )
    norm, known = params["norm"], stats["norm"]
    x = np.asarray(features, np.float64) @ params["kernel"]
    x = (x - known["mean"]) / np.sqrt(known["var"] + 1e-5) * norm["scale"] + norm["bias"]
    return np.maximum(x, 0)


def test_uniform_classifies_the_maximum_of_its_frames_embeddings() -> None:
    variables, method = _variables("uniform"), METHODS["uniform"]
    found = _model("uniform")(CLIPS, num_frames=LENGTHS)

    def features(module: Any, frames: jax.Array) -> jax.Array:
        x = frames.reshape(-1, SIZE, SIZE, 3) / 255.0
        scheme = module.backbone_0.normalisation
        x = (x - jnp.asarray(scheme.mean)) / jnp.asarray(scheme.std)
        return module.backbone_0.features(x)

    rows = jax.jit(functools.partial(method.module().apply, method=features))(variables, CLIPS)
    embedded = _embedded(variables, ("backbone_0",), rows).reshape(VIDEOS, FRAMES, WIDTH)
    head = variables["params"]["backbone_0"]["head"]
    for video, length in enumerate(LENGTHS):
        expected = embedded[video, :length].max(0) @ head["kernel"] + head["bias"]
        np.testing.assert_allclose(found.logits[video], expected, rtol=1e-4, atol=1e-4)


_SLOW = ("uniform", "lstm", "multi_scale")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW)) for name in METHODS],
)
def test_the_sparse_form_is_the_dense_one_under_either_head(name: str) -> None:
    masked = _model(name)(CLIPS, num_frames=LENGTHS, routing="masked")
    routed = _model(name)(CLIPS, num_frames=LENGTHS, chunks=(2, 1))
    np.testing.assert_array_equal(routed.actions, masked.actions)
    scale = np.abs(masked.logits).max()
    np.testing.assert_allclose(routed.logits, masked.logits, atol=1e-5 * scale)


def test_networks_of_different_resolutions_share_one_maximum() -> None:
    """AR-Net: each frame's row is its network's; their classifiers weigh as their frames do."""
    method, variables = METHODS["ar_net"], _variables("ar_net")
    module = method.module()

    def run(module: Any, frames: jax.Array) -> tuple[Any, list[jax.Array]]:
        features, steps = module.decide(frames)
        everything = jnp.ones((VIDEOS, FRAMES, 1), bool)
        rows, _ = module.frame_rows(frames, Mode(), features[0], steps, everything)
        return module(frames), rows

    prediction, rows = jax.jit(functools.partial(module.apply, method=run))(variables, CLIPS)
    params = variables["params"]
    heads = (params["backbone_0"]["head"], params["policy"]["lowest_head"])
    for video, actions in enumerate(np.asarray(prediction.decisions.actions)):
        kept = [(t, a) for t, a in enumerate(actions) if a < 2]
        maximum = np.max([rows[a][video, t] for t, a in kept] or [np.zeros(WIDTH)], axis=0)
        each = [maximum @ heads[a]["kernel"] + heads[a]["bias"] for _, a in kept]
        expected = np.mean(each, axis=0) if kept else np.zeros(CLASSES)
        np.testing.assert_allclose(prediction.logits[video], expected, rtol=1e-4, atol=1e-4)


def test_a_stream_ends_where_the_clip_does() -> None:
    model = _model("ar_net")
    clip, stream = model(CLIPS[:1], routing="masked"), model.stream()
    for frame in CLIPS[0]:
        stream.push(frame)
    np.testing.assert_array_equal(stream.actions, clip.actions[0])
    np.testing.assert_allclose(stream.logits, clip.logits[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_routed_training_moves_the_embeddings_statistics_too() -> None:
    method, variables = METHODS["ar_net"], _variables("ar_net")
    stage = ARNetStage(freeze_policy="parameters", routing="routed", decisions="argmax")
    keys = example_keys(0, jnp.zeros(VIDEOS, jnp.int32), jnp.arange(VIDEOS))
    mode = method.training_mode(stage, keys, Moment(jnp.int32(0), jnp.float32(0)))

    @jax.jit
    def train(variables: Any) -> Any:
        return method.predict_in_training(stage, variables, {"frames": CLIPS}, mode, None)[1]

    stats = train(variables)
    for name in ("policy", "backbone_0"):
        before = variables["batch_stats"][name]["embedding"]["norm"]["mean"]
        assert (stats[name]["embedding"]["norm"]["mean"] != before).any(), name


# --- What it costs, and what stays as it was ----------------------------------------------------


def test_what_the_head_costs() -> None:
    """The papers' 41.2 for ten frames: 4.1094 + the head; 65.76 for sixteen averaged ones."""
    mean, maximum = (
        Uniform(UniformConfig(num_classes=200, head=head)) for head in ("mean", "max_mlp")
    )
    for method, frames, expected in ((mean, 16, 65.76), (maximum, 10, 41.187)):
        cost = total_gflops(method.networks(), {"224px": frames}, "paper")
        assert cost == pytest.approx(expected, abs=0.01)
    difference = maximum.networks()["224px"].gflops("macs") - mean.networks()["224px"].gflops(
        "macs"
    )
    assert difference == pytest.approx((2048 * 4096 + 4096 * 200 - 2048 * 200) / 1e9, rel=1e-6)


def test_mean_has_no_parameter_of_the_other_head() -> None:
    for name, method in METHODS.items():
        plain = type(method)(dataclasses.replace(method.config, head="mean"))
        paths = {
            "/".join(key.key for key in path)
            for path, _ in jax.tree.leaves_with_path(plain.variable_shapes())
        }
        assert not any("embedding" in path for path in paths), name
    assert ModelConfig().head == "mean"


def test_the_authors_code_cannot_say_it() -> None:
    config = UniformConfig(num_classes=5, head="max_mlp")
    with pytest.raises(UserError, match="config.model.head is 'max_mlp'"):
        export_released(Uniform(config), {})
