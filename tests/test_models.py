"""Every method as a whole: what it computes, what training sees, and what padding must not do."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.losses import classification_loss
from ar_net_jax.methods import Method
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig, ARNetStage
from ar_net_jax.methods.lstm import LSTM, LSTMConfig
from ar_net_jax.methods.multi_scale import MultiScale, MultiScaleConfig
from ar_net_jax.methods.random_policy import RandomPolicy, RandomPolicyConfig
from ar_net_jax.methods.scsampler import SCSampler, SCSamplerConfig
from ar_net_jax.methods.uniform import Uniform, UniformConfig
from ar_net_jax.modules.frame_runner import Mode, flatten_frames
from ar_net_jax.modules.policy import PolicyConfig
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.decide import Forced, GumbelSample
from ar_net_jax.ops.resize import IMAGENET, prepare_frames
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.ops.routing import masked_average

VIDEOS, FRAMES, CLASSES = 3, 5, 4
MEAN, STD = map(np.array, IMAGENET)
SHARED = {"num_classes": CLASSES, "resolutions": (32, 16), "backbones": ("resnet8_tiny",)}
POLICY = PolicyConfig("resnet8_tiny", 16, hidden_size=8)
SINGLE = {"num_classes": CLASSES, "backbone": "resnet8_tiny", "resolution": 32}
AR_NET = ARNet(ARNetConfig(**SHARED, skips=(1, 2), policy=POLICY))
METHODS = {
    "ar_net": AR_NET,
    "uniform": Uniform(UniformConfig(**SINGLE)),
    "lstm": LSTM(LSTMConfig(**SINGLE, hidden_size=8)),
    "random_policy": RandomPolicy(RandomPolicyConfig(**SHARED, skips=(1, 2), policy=POLICY)),
    "multi_scale": MultiScale(MultiScaleConfig(**SHARED, policy=POLICY)),
    "scsampler": SCSampler(
        SCSamplerConfig(**SINGLE, sampler_backbone="resnet8_tiny", sampler_resolution=16, frames=2)
    ),
}
WARMUP = ARNetStage(objective="separate", train_policy_features=True)
RNG = np.random.default_rng(0)
# Each frame of a colour of its own, so that pooled features, and with them decisions, differ.
COLOURS = RNG.integers(0, 200, (VIDEOS, FRAMES, 1, 1, 3))
VIDEO_FRAMES = (COLOURS + RNG.integers(0, 56, (VIDEOS, FRAMES, 32, 32, 3))).astype(np.uint8)
IDS = np.array([7, 3, 11], np.int32)


def _keys(ids: np.ndarray = IDS) -> jax.Array:
    return example_keys(0, jnp.zeros(len(ids), jnp.int32), jnp.asarray(ids))


@functools.cache
def _variables(method: Method) -> dict[str, Any]:
    """Random weights of a size at which features matter and decisions differ between frames."""
    shapes = method.variable_shapes()
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
def _compiled(method: Method, called: Any = None) -> Any:
    """apply(variables, frames, mode, **arrays) -> (output, updated statistics)."""
    model = method.module()

    def run(variables: Any, frames: jax.Array, mode: Mode, **arrays: Any) -> Any:
        return model.apply(
            variables, frames, mode, method=called, mutable=["batch_stats"], **arrays
        )

    return jax.jit(run)


def _predict(method: Method, mode: Mode | None = None, **arrays: Any) -> Prediction:
    frames = arrays.pop("frames", VIDEO_FRAMES)
    # Always given, so that a test with a mask needs no compilation of its own.
    arrays.setdefault("frame_mask", jnp.ones(frames.shape[:2], bool))
    return _compiled(method)(_variables(method), frames, mode or Mode(keys=_keys()), **arrays)[0]


def _by_network(model: Any, frames: jax.Array, mode: Mode) -> jax.Array:
    """Each network's logits on every frame by the decisions of the mode: [B, T, L, C]."""
    features, steps = model.decide(frames, mode)
    everything = jnp.ones((*frames.shape[:2], len(model.config.resolutions)), bool)
    return jnp.stack(model.frame_rows(frames, mode, features[0], steps, everything)[0], axis=2)


def _by_policy(model: Any, frames: jax.Array, mode: Mode) -> jax.Array:
    """As `_by_network`, where there is nothing to decide that the predictions hang on."""
    features = model.policy_features(frames, mode)[0]
    steps = model.policy.decide(features)
    everything = jnp.ones((*frames.shape[:2], len(model.config.resolutions)), bool)
    return jnp.stack(model.frame_rows(frames, mode, features, steps, everything)[0], axis=2)


def _by_backbone(model: Any, frames: jax.Array, mode: Mode) -> jax.Array:
    x = prepare_frames(flatten_frames(frames), 32)
    return model.backbone_0(x).reshape(*frames.shape[:2], 1, -1)


def _by_lstm(model: Any, frames: jax.Array, mode: Mode) -> jax.Array:
    x = prepare_frames(flatten_frames(frames), 32)
    features = model.backbone_0.features(x).reshape(*frames.shape[:2], -1)
    return model.head(model.lstm.unroll(features))[:, :, None]


# What a method's prediction is made of, and how many of its choices show the frame to a network.
FRAME_LOGITS = {
    "ar_net": (_by_network, 2),
    "uniform": (_by_backbone, 0),
    "lstm": (_by_lstm, 0),
    "random_policy": (_by_policy, 2),
    "multi_scale": (_by_policy, 0),
    "scsampler": (_by_backbone, 1),
}


def _frame_logits(name: str, mode: Mode | None = None) -> np.ndarray:
    """Float32 [B, T, L, C], from the parts of the model and none of its averaging."""
    run = _compiled(METHODS[name], FRAME_LOGITS[name][0])
    found = run(_variables(METHODS[name]), VIDEO_FRAMES, mode or Mode(keys=_keys()))[0]
    return np.asarray(found)


# --- Each method --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_each_method_builds_and_runs(name: str) -> None:
    method = METHODS[name]
    prediction = _predict(method)
    assert prediction.logits.shape == (VIDEOS, CLASSES)
    assert prediction.logits.dtype == jnp.float32
    assert np.abs(prediction.logits).max() > 0.01, "not a trivial case"
    frame_logits, seeing = _frame_logits(name), FRAME_LOGITS[name][1]
    weights = np.ones(frame_logits.shape[:3])
    assert bool(seeing) == (prediction.decisions is not None)
    if prediction.decisions is not None:
        one_hot = np.asarray(prediction.decisions.one_hot)
        assert one_hot.shape == (VIDEOS, FRAMES, len(method.choices))
        np.testing.assert_array_equal(one_hot.sum(-1), 1)
        assert prediction.decisions.actions.dtype == jnp.int32
        assert len(np.unique(prediction.decisions.actions)) > 1, "nor a constant policy"
        weights = one_hot[..., :seeing]
    np.testing.assert_allclose(prediction.logits, _masked_average(frame_logits, weights), atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_calls_are_those_of_the_choices_made(name: str) -> None:
    method = METHODS[name]
    prediction = _predict(method)
    actions = np.zeros((VIDEOS, FRAMES), int)
    if prediction.decisions is not None:
        actions = np.asarray(prediction.decisions.actions)
    choices = method.choices
    assert prediction.calls.keys() == choices.calls.keys()
    for network, per in choices.calls.items():
        assert prediction.calls[network].dtype == jnp.float32
        np.testing.assert_allclose(prediction.calls[network], np.array(per)[actions].sum(1))
        assert prediction.executed[network] == VIDEOS * FRAMES, "masked: all of them, on all frames"


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
    mode = Mode(decide=Forced(jnp.int32([[0, 1, 1, 0, 0], [2, 0, 3, 0, 1], [2, 2, 2, 3, 3]])))
    prediction = _predict(AR_NET, mode)
    held = [[0, 1, 1, 0, 0], [2, 0, 3, 3, 1], [2, 2, 2, 3, 3]]
    assert prediction.decisions.actions.tolist() == held
    first, second, _ = _frame_logits("ar_net")
    expected = [
        (first[0, 0] + first[1, 1] + first[2, 1] + first[3, 0] + first[4, 0]) / 5,
        (second[1, 0] + second[4, 1]) / 2,
        np.zeros(CLASSES),
    ]
    np.testing.assert_allclose(prediction.logits, expected, atol=1e-5)


def test_a_backbone_in_ar_net_is_the_uniform_baseline() -> None:
    uniform = METHODS["uniform"]
    ours = {name: {"backbone_0": tree["backbone_0"]} for name, tree in _variables(AR_NET).items()}
    mask = jnp.ones((VIDEOS, FRAMES), bool)
    alone, _ = _compiled(uniform)(ours, VIDEO_FRAMES, Mode(keys=_keys()), frame_mask=mask)
    together = _predict(AR_NET, Mode(decide=Forced(jnp.zeros((VIDEOS, FRAMES), jnp.int32))))
    np.testing.assert_allclose(together.logits, alone.logits, atol=1e-5)


def test_multi_scale_averages_all_resolutions_and_frames() -> None:
    prediction = _predict(METHODS["multi_scale"])
    expected = _frame_logits("multi_scale").astype(np.float64).mean((1, 2))
    np.testing.assert_allclose(prediction.logits, expected, atol=1e-5)


def test_random_policy_draws_uniformly_and_a_skip_drops_only_its_own_frame() -> None:
    method = METHODS["random_policy"]
    model = method.module()
    many = np.arange(2_000, dtype=np.int32)
    drawn = np.asarray(model._draw(_keys(many), FRAMES))
    shares = np.bincount(drawn.ravel(), minlength=4) / drawn.size
    np.testing.assert_allclose(shares, 0.25, atol=4 * 0.43 / drawn.size**0.5)
    # Videos whose first draw is "skip 2" and whose second is a resolution.
    ids = many[(drawn[:, 0] == 3) & (drawn[:, 1] < 2)][:VIDEOS]
    prediction = _predict(method, Mode(keys=_keys(ids)))
    np.testing.assert_array_equal(prediction.decisions.actions, drawn[ids])
    with pytest.raises(ValueError, match="mode.keys"):
        model.apply(_variables(method), VIDEO_FRAMES)


def test_evaluation_of_a_video_does_not_depend_on_its_batch() -> None:
    for name in ("ar_net", "random_policy", "lstm"):
        whole = _predict(METHODS[name])
        order = np.array([2, 0, 1])
        mode = Mode(keys=_keys(IDS[order]))
        shuffled = _predict(METHODS[name], mode, frames=VIDEO_FRAMES[order])
        np.testing.assert_allclose(shuffled.logits, whole.logits[order], atol=1e-5)
        if whole.decisions is not None:
            actions = whole.decisions.actions[order]
            np.testing.assert_array_equal(shuffled.decisions.actions, actions)


# --- Padding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_padding_frames_do_not_change_a_video(name: str) -> None:
    method, kept = METHODS[name], np.array([5, 2, 4])
    mask = np.arange(FRAMES) < kept[:, None]
    noise = RNG.integers(0, 256, VIDEO_FRAMES.shape, np.uint8)
    padded = np.where(mask[:, :, None, None, None], VIDEO_FRAMES, noise)
    mode = Mode(keys=_keys())
    one, other = (
        _predict(method, mode, frames=x, frame_mask=jnp.asarray(mask))
        for x in (VIDEO_FRAMES, padded)
    )
    np.testing.assert_allclose(other.logits, one.logits, atol=1e-5)
    if one.decisions is None:
        for calls in one.calls.values():
            np.testing.assert_array_equal(calls, kept, "needs no network")
    else:
        one_hot = np.asarray(one.decisions.one_hot)
        np.testing.assert_array_equal(one_hot[~mask], 0.0, "counts for no action")
        for network, per in method.choices.calls.items():
            np.testing.assert_allclose(one.calls[network], (one_hot * np.array(per)).sum((1, 2)))


@pytest.mark.parametrize("name", ["ar_net", "lstm"])
def test_a_padded_video_is_as_good_as_a_short_one(name: str) -> None:
    method, mask = METHODS[name], np.array([[True] * 5, [True] * 2 + [False] * 3, [True] * 5])
    padded = _predict(method, frame_mask=jnp.asarray(mask))
    short = _predict(method, Mode(keys=_keys(IDS[1:2])), frames=VIDEO_FRAMES[1:2, :2])
    np.testing.assert_allclose(padded.logits[1], short.logits[0], atol=1e-5)
    for network, calls in padded.calls.items():
        assert calls[1] == short.calls[network][0]
    if padded.decisions is not None:
        np.testing.assert_array_equal(padded.decisions.one_hot[1, :2], short.decisions.one_hot[0])


# --- Training -----------------------------------------------------------------------------------


def test_gradient_reaches_the_decision_head_through_the_accuracy_loss() -> None:
    variables, labels = _variables(AR_NET), jnp.int32([[0], [1], [2]])
    model = AR_NET.module()

    @jax.jit
    @jax.grad
    def gradient(params: Any) -> jax.Array:
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        mode = Mode(train=True, keys=_keys(), decide=GumbelSample(jnp.float32(2.0)))
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
    whole, stats = _in_training(VIDEO_FRAMES, IDS)
    shuffled, other_stats = _in_training(VIDEO_FRAMES[order], IDS[order])
    np.testing.assert_array_equal(shuffled.decisions.actions, whole.decisions.actions[order])
    for name in ("backbone_0", "policy"):
        ours, theirs = shuffled.network_logits[name], whole.network_logits[name][order]
        np.testing.assert_allclose(ours, theirs, atol=2e-4)
    np.testing.assert_allclose(shuffled.logits, whole.logits[order], atol=2e-4)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4), stats, other_stats)
    other, _ = _in_training(VIDEO_FRAMES, IDS + 1)
    for name, logits in whole.network_logits.items():
        assert np.abs(other.network_logits[name] - logits).max() > 0.01, "dropout is on"


def _in_training(frames: np.ndarray, ids: np.ndarray) -> tuple[Prediction, Any]:
    mode = Mode(train=True, keys=_keys(ids), decide=GumbelSample(jnp.float32(1.0)))
    return _compiled(AR_NET)(_variables(AR_NET), frames, mode)


def test_training_moves_the_statistics_of_what_trains() -> None:
    variables, moved = _variables(AR_NET), {}
    for frozen, how in (((), {"decide": GumbelSample(jnp.float32(1.0))}), (("policy",), {})):
        mode = Mode(train=True, frozen=frozen, keys=_keys(), **how)
        prediction, updated = _compiled(AR_NET)(variables, VIDEO_FRAMES, mode)
        for part in ("backbone_0", "policy"):
            before, after = (v["batch_stats"][part] for v in (variables, updated))
            changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after)
            moved[not frozen, part] = set(jax.tree.leaves(changed))
    assert moved == {
        (True, "backbone_0"): {True},
        (True, "policy"): {True},
        (False, "backbone_0"): {True},
        (False, "policy"): {False},
    }
    evaluated = _predict(AR_NET)
    decided, expected = prediction.decisions, evaluated.decisions
    np.testing.assert_allclose(decided.logits, expected.logits, atol=1e-6)
    np.testing.assert_array_equal(decided.actions, expected.actions, "no dropout in it either")


def test_separate_predictions_are_plain_averages_of_each_network() -> None:
    classify = jax.jit(functools.partial(AR_NET.classify_separately, WARMUP))
    separate, _ = classify(_variables(AR_NET), VIDEO_FRAMES, Mode())
    beside = _predict(AR_NET).network_logits
    by_frame = _frame_logits("ar_net").astype(np.float64)
    assert sorted(separate) == sorted(beside) == ["backbone_0", "policy"]
    for i, name in enumerate(sorted(separate)):
        # The policy's own warm-up classifier is its lowest head, which reads features here.
        np.testing.assert_allclose(separate[name], by_frame[:, :, i].mean(1), atol=1e-5)
        np.testing.assert_allclose(beside[name], by_frame[:, :, i].mean(1), atol=1e-5)


def test_bfloat16_is_for_the_backbones_only() -> None:
    lower = ARNet(dataclasses.replace(AR_NET.config, dtype="bfloat16"))
    assert {x.dtype for x in jax.tree.leaves(lower.variable_shapes())} == {jnp.dtype("float32")}
    low, high = (
        _compiled(method)(_variables(AR_NET), VIDEO_FRAMES, Mode(keys=_keys()))[0]
        for method in (lower, AR_NET)
    )
    floats = [x.dtype for x in jax.tree.leaves(low) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert set(floats) == {jnp.dtype("float32")}
    change = {
        name: np.abs(low.network_logits[name] - logits).max()
        for name, logits in high.network_logits.items()
    }
    assert 1e-5 < change["backbone_0"] < 0.1, "lower precision, the same model"
    assert change["policy"] < 1e-6, "the policy stays float32"
