"""Every approach as a whole: what it computes, what training sees, and what padding must not do."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.config.model import ModelConfig, PolicyConfig
from ar_net_jax.losses import classification_loss
from ar_net_jax.methods.registry import APPROACHES, build_model, init_variables
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.multi_backbone import Prediction
from ar_net_jax.ops.resize import MEAN, STD, nearest_indices, prepare_frames
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.ops.routing import masked_average

VIDEOS, FRAMES, CLASSES = 3, 5, 4
AR_NET = ModelConfig(
    num_classes=CLASSES,
    resolutions=(32, 16),
    backbones=("resnet8_tiny",),
    skips=(1, 2),
    policy=PolicyConfig("resnet8_tiny", 16, hidden_size=8),
)
SINGLE = {"resolutions": (32,), "backbones": ("resnet8_tiny",), "skips": ()}
CONFIGS = {
    "ar_net": AR_NET,
    "uniform": dataclasses.replace(AR_NET, approach="uniform", **SINGLE),
    "lstm": dataclasses.replace(AR_NET, approach="lstm", **SINGLE),
    "random_policy": dataclasses.replace(AR_NET, approach="random_policy"),
    "multi_scale": dataclasses.replace(AR_NET, approach="multi_scale", skips=()),
}
RNG = np.random.default_rng(0)
# Each frame of a colour of its own, so that pooled features, and with them decisions, differ.
COLOURS = RNG.integers(0, 200, (VIDEOS, FRAMES, 1, 1, 3))
VIDEO_FRAMES = (COLOURS + RNG.integers(0, 56, (VIDEOS, FRAMES, 32, 32, 3))).astype(np.uint8)
IDS = np.array([7, 3, 11], np.int32)


def _keys(ids: np.ndarray = IDS) -> jax.Array:
    return example_keys(0, jnp.zeros(len(ids), jnp.int32), jnp.asarray(ids))


@functools.cache
def _variables(config: ModelConfig) -> dict[str, Any]:
    """Random weights of a size at which features matter and decisions differ between frames."""
    shapes = jax.eval_shape(lambda: init_variables(config, jax.random.key(0), separate=True))
    rng = np.random.default_rng(3)

    def fill(path: tuple, x: jax.ShapeDtypeStruct) -> np.ndarray:
        names = [entry.key for entry in path]
        if names[-1] in ("scale", "var"):
            return rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
        size = 2.0 if {"lstm", "decision"} & set(names) else 1.0
        size *= 0.1 if x.ndim == 1 else np.prod(x.shape[:-1]) ** -0.5
        return (rng.normal(size=x.shape) * size).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


@functools.cache
def _compiled(config: ModelConfig, method: str | None = None) -> Any:
    """apply(variables, frames, mode, **arrays) -> (output, updated statistics)."""
    model = build_model(config)

    def run(variables: Any, frames: jax.Array, mode: Mode, **arrays: Any) -> Any:
        return model.apply(
            variables, frames, mode, method=method, mutable=["batch_stats"], **arrays
        )

    return jax.jit(run)


def _predict(config: ModelConfig, mode: Mode | None = None, **arrays: Any) -> Prediction:
    frames = arrays.pop("frames", VIDEO_FRAMES)
    # Always given, so that a test with a mask needs no compilation of its own.
    arrays.setdefault("frame_mask", jnp.ones(frames.shape[:2], bool))
    return _compiled(config)(_variables(config), frames, mode or Mode(keys=_keys()), **arrays)[0]


# --- Each approach ------------------------------------------------------------------------------


@pytest.mark.parametrize("approach", APPROACHES)
def test_each_approach_builds_and_runs(approach: str) -> None:
    config = CONFIGS[approach]
    prediction = _predict(config)
    assert prediction.logits.shape == (VIDEOS, CLASSES)
    assert prediction.logits.dtype == jnp.float32
    lengths = len(config.resolutions)
    assert prediction.frame_logits.shape == (VIDEOS, FRAMES, lengths, CLASSES)
    assert prediction.one_hot.shape == (VIDEOS, FRAMES, config.space.num_actions)
    assert prediction.actions.dtype == jnp.int32
    assert np.abs(prediction.logits).max() > 0.01, "not a trivial case"
    if approach in ("ar_net", "random_policy"):
        assert len(np.unique(prediction.actions)) > 1, "nor a constant policy"
    expected = _masked_average(prediction.frame_logits, prediction.one_hot[..., :lengths])
    np.testing.assert_allclose(prediction.logits, expected, atol=1e-5)


def _masked_average(frame_logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    logits, weights = np.asarray(frame_logits, np.float64), np.asarray(weights)
    out = np.zeros((logits.shape[0], logits.shape[-1]))
    for b, t, r in zip(*np.nonzero(weights)):
        out[b] += logits[b, t, r] / (weights[b] > 0).sum()
    return out


def test_masked_average_of_all_some_and_no_frames() -> None:
    frame_logits = RNG.normal(size=(3, 4, 2, CLASSES)).astype(np.float32)
    weights = np.zeros((3, 4, 2), np.float32)
    weights[0, :, 0] = 1
    weights[1, 2, 1] = 1
    got, gradient = jax.value_and_grad(lambda w: masked_average(frame_logits, w).sum())(weights)
    expected = _masked_average(frame_logits, weights)
    np.testing.assert_allclose(masked_average(frame_logits, weights), expected, atol=1e-6)
    np.testing.assert_array_equal(expected[2], 0.0)
    np.testing.assert_allclose(got, expected.sum(), rtol=1e-5)
    # Quotient rule with one kept frame: adding a frame of weight dw gives (x + y dw) / (1 + dw).
    slope = frame_logits[1].sum(-1) - frame_logits[1, 2, 1].sum()
    np.testing.assert_allclose(gradient[1], slope, atol=1e-5)
    np.testing.assert_allclose(gradient[2], frame_logits[2].sum(-1), atol=1e-5)


def test_ar_net_predicts_each_frame_as_its_action_says() -> None:
    proposals = jnp.int32([[0, 1, 1, 0, 0], [2, 0, 3, 0, 1], [2, 2, 2, 3, 3]])
    prediction = _predict(AR_NET, proposals=proposals)
    assert prediction.actions.tolist() == [[0, 1, 1, 0, 0], [2, 0, 3, 3, 1], [2, 2, 2, 3, 3]]
    first, second, _ = np.asarray(prediction.frame_logits)
    expected = [
        (first[0, 0] + first[1, 1] + first[2, 1] + first[3, 0] + first[4, 0]) / 5,
        (second[1, 0] + second[4, 1]) / 2,
        np.zeros(CLASSES),
    ]
    np.testing.assert_allclose(prediction.logits, expected, atol=1e-5)


def test_a_backbone_in_ar_net_is_the_uniform_baseline() -> None:
    uniform = CONFIGS["uniform"]
    ours = {name: {"backbone_0": tree["backbone_0"]} for name, tree in _variables(AR_NET).items()}
    mask = jnp.ones((VIDEOS, FRAMES), bool)
    alone, _ = _compiled(uniform)(ours, VIDEO_FRAMES, Mode(keys=_keys()), frame_mask=mask)
    proposals = jnp.zeros((VIDEOS, FRAMES), jnp.int32)
    together = _predict(AR_NET, proposals=proposals)
    np.testing.assert_allclose(together.logits, alone.logits, atol=1e-5)


def test_multi_scale_averages_all_resolutions_and_frames() -> None:
    prediction = _predict(CONFIGS["multi_scale"])
    expected = np.asarray(prediction.frame_logits, np.float64).mean((1, 2))
    np.testing.assert_allclose(prediction.logits, expected, atol=1e-5)


def test_random_policy_draws_uniformly_and_a_skip_drops_only_its_own_frame() -> None:
    config = CONFIGS["random_policy"]
    model = build_model(config)
    many = np.arange(2_000, dtype=np.int32)
    drawn = np.asarray(model._draw(_keys(many), FRAMES))
    shares = np.bincount(drawn.ravel(), minlength=4) / drawn.size
    np.testing.assert_allclose(shares, 0.25, atol=4 * 0.43 / drawn.size**0.5)
    # Videos whose first draw is "skip 2" and whose second is a resolution.
    ids = many[(drawn[:, 0] == 3) & (drawn[:, 1] < 2)][:VIDEOS]
    prediction = _predict(config, Mode(keys=_keys(ids)))
    np.testing.assert_array_equal(prediction.actions, drawn[ids])
    with pytest.raises(ValueError, match="mode.keys"):
        model.apply(_variables(config), VIDEO_FRAMES)


def test_evaluation_of_a_video_does_not_depend_on_its_batch() -> None:
    for approach in ("ar_net", "random_policy", "lstm"):
        whole = _predict(CONFIGS[approach])
        order = np.array([2, 0, 1])
        mode = Mode(keys=_keys(IDS[order]))
        shuffled = _predict(CONFIGS[approach], mode, frames=VIDEO_FRAMES[order])
        np.testing.assert_allclose(shuffled.logits, whole.logits[order], atol=1e-5)
        np.testing.assert_array_equal(shuffled.actions, whole.actions[order])


# --- Padding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("approach", APPROACHES)
def test_padding_frames_do_not_change_a_video(approach: str) -> None:
    config, kept = CONFIGS[approach], np.array([5, 2, 4])
    mask = np.arange(FRAMES) < kept[:, None]
    noise = RNG.integers(0, 256, VIDEO_FRAMES.shape, np.uint8)
    padded = np.where(mask[:, :, None, None, None], VIDEO_FRAMES, noise)
    mode = Mode(keys=_keys())
    one, other = (
        _predict(config, mode, frames=x, frame_mask=jnp.asarray(mask))
        for x in (VIDEO_FRAMES, padded)
    )
    np.testing.assert_allclose(other.logits, one.logits, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(one.one_hot)[~mask], 0.0, "counts for no action")


@pytest.mark.parametrize("approach", ["ar_net", "lstm"])
def test_a_padded_video_is_as_good_as_a_short_one(approach: str) -> None:
    config, mask = CONFIGS[approach], np.array([[True] * 5, [True] * 2 + [False] * 3, [True] * 5])
    padded = _predict(config, frame_mask=jnp.asarray(mask))
    short = _predict(config, Mode(keys=_keys(IDS[1:2])), frames=VIDEO_FRAMES[1:2, :2])
    np.testing.assert_allclose(padded.logits[1], short.logits[0], atol=1e-5)
    np.testing.assert_array_equal(padded.one_hot[1, :2], short.one_hot[0])


# --- Training -----------------------------------------------------------------------------------


def test_gradient_reaches_the_decision_head_through_the_accuracy_loss() -> None:
    variables, labels = _variables(AR_NET), jnp.int32([[0], [1], [2]])
    model = build_model(AR_NET)

    @jax.jit
    @jax.grad
    def gradient(params: Any) -> jax.Array:
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        mode = Mode(True, True, _keys(), jnp.float32(2.0))
        prediction, _ = model.apply(state, VIDEO_FRAMES, mode, mutable=["batch_stats"])
        return classification_loss(prediction.logits, labels)

    found = gradient(variables["params"])
    assert np.abs(found["policy"]["decision"]["kernel"]).max() > 1e-4
    assert np.abs(found["policy"]["lstm"]["kernel_ih"]).max() > 1e-5
    assert np.abs(found["policy"]["backbone"]["conv1"]["kernel"]).max() > 1e-5
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(found))


def test_dropout_and_decisions_follow_the_example_not_its_place() -> None:
    """With batch statistics a sum over the batch, only its order of summation may differ."""
    order = np.array([1, 2, 0])
    mode = Mode(True, True, _keys(), jnp.float32(1.0))
    shuffled_mode = Mode(True, True, _keys(IDS[order]), jnp.float32(1.0))
    variables = _variables(AR_NET)
    whole, stats = _compiled(AR_NET)(variables, VIDEO_FRAMES, mode)
    shuffled, other_stats = _compiled(AR_NET)(variables, VIDEO_FRAMES[order], shuffled_mode)
    np.testing.assert_array_equal(shuffled.actions, whole.actions[order])
    np.testing.assert_allclose(shuffled.frame_logits, whole.frame_logits[order], atol=2e-4)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4), stats, other_stats)
    other_keys = Mode(True, True, _keys(IDS + 1), jnp.float32(1.0))
    other, _ = _compiled(AR_NET)(variables, VIDEO_FRAMES, other_keys)
    assert np.abs(other.frame_logits - whole.frame_logits).max() > 0.01, "dropout is on"


def test_training_moves_the_statistics_of_what_trains() -> None:
    variables, moved = _variables(AR_NET), {}
    for train_policy, tau in ((True, jnp.float32(1.0)), (False, None)):
        mode = Mode(True, train_policy, _keys(), tau)
        prediction, updated = _compiled(AR_NET)(variables, VIDEO_FRAMES, mode)
        for part in ("backbone_0", "policy"):
            before, after = (v["batch_stats"][part] for v in (variables, updated))
            changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after)
            moved[train_policy, part] = set(jax.tree.leaves(changed))
    assert moved == {
        (True, "backbone_0"): {True},
        (True, "policy"): {True},
        (False, "backbone_0"): {True},
        (False, "policy"): {False},
    }
    evaluated = _predict(AR_NET)
    np.testing.assert_allclose(prediction.policy_logits, evaluated.policy_logits, atol=1e-6)
    np.testing.assert_array_equal(prediction.actions, evaluated.actions, "no dropout in it either")


def test_separate_predictions_are_plain_averages_of_each_network() -> None:
    mode = Mode()
    separate, _ = _compiled(AR_NET, "classify_separately")(_variables(AR_NET), VIDEO_FRAMES, mode)
    by_frame = np.asarray(_predict(AR_NET).frame_logits, np.float64)
    assert sorted(separate) == ["backbone_0", "policy"]
    for i, name in enumerate(sorted(separate)):
        # The policy's own warm-up classifier is its lowest head, which reads features here.
        np.testing.assert_allclose(separate[name], by_frame[:, :, i].mean(1), atol=1e-5)


def test_bfloat16_is_for_the_backbones_only() -> None:
    config = dataclasses.replace(AR_NET, dtype="bfloat16")
    variables = jax.eval_shape(lambda: init_variables(config, jax.random.key(0)))
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    low, high = (
        _compiled(c)(_variables(AR_NET), VIDEO_FRAMES, Mode(keys=_keys()))[0]
        for c in (config, AR_NET)
    )
    floats = [x.dtype for x in jax.tree.leaves(low) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert set(floats) == {jnp.dtype("float32")}
    difference = np.abs(low.frame_logits - high.frame_logits).max()
    assert 1e-5 < difference < 0.1, "lower precision, the same model"


# --- Frames -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [168, 112, 84, 224])
def test_nearest_follows_the_released_index_rule(size: int) -> None:
    frames = RNG.integers(0, 256, (1, 224, 224, 3), np.uint8)
    source = np.array([int(np.floor(i * 224 / size)) for i in range(size)])
    np.testing.assert_array_equal(nearest_indices(224, size), source)
    expected = (frames[:, source][:, :, source] / 255.0 - MEAN) / STD
    got = prepare_frames(frames, size)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_antialias_is_a_triangle_filter_over_the_footprint() -> None:
    """Halving: each result weighs the four pixels around its centre 1, 3, 3, 1 eighths."""
    frames = RNG.integers(0, 256, (2, 8, 8, 3), np.uint8)
    got = np.asarray(prepare_frames(frames, 4, "antialias")) * STD + MEAN
    inner = np.array([1, 3, 3, 1]) / 8
    weights = np.zeros((4, 8))
    for i in range(4):
        for offset, weight in zip(range(-1, 3), inner):
            if 0 <= 2 * i + offset < 8:
                weights[i, 2 * i + offset] = weight
    weights /= weights.sum(1, keepdims=True)
    expected = np.einsum("ia,nabc,jb->nijc", weights, frames / 255.0, weights)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    library = jax.image.resize(jnp.float32(frames), (2, 4, 4, 3), "linear") / 255.0
    np.testing.assert_allclose(got, library, atol=1e-5)
