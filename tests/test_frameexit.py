"""FrameExit: where it ends a video, what it says then, what that costs, what teaches its gates."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.costs import total_gflops
from ar_net_jax.costs.counting import count_macs
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import Model
from ar_net_jax.inference.step import Request, Result, make_inference
from ar_net_jax.losses import Accuracy, LossContext
from ar_net_jax.methods import FROZEN, MODEL, Mode, Moment
from ar_net_jax.methods.frameexit import (
    EveryExit,
    ExitGates,
    FrameExit,
    FrameExitStage,
    go_on_targets,
)
from ar_net_jax.methods.frameexit_module import FrameExitConfig
from ar_net_jax.modules.exits import Gate, confidence_logit, gate_macs
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.frame_order import coarse_to_fine
from ar_net_jax.ops.rng import example_keys

Exit = Literal["gates", "confidence"]
VIDEOS, FRAMES, CLASSES, SIZE, STEPS = 5, 6, 4, 16, 5
CONFIDENCE = 0.65
LENGTHS = np.array([6, 1, 4, 6, 3])
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 200, (VIDEOS, FRAMES, 1, 1, 3))
CLIPS = (COLOURS + RNG.integers(0, 56, (VIDEOS, FRAMES, SIZE, SIZE, 3))).astype(np.uint8)
CONFIG = FrameExitConfig(
    num_classes=CLASSES,
    backbone="resnet8_tiny",
    resolution=SIZE,
    steps=STEPS,
    confidence=CONFIDENCE,
)
METHOD = FrameExit(CONFIG)
ORDER = coarse_to_fine(FRAMES)
ALL = np.full(VIDEOS, FRAMES)


@functools.cache
def _variables() -> dict[str, Any]:
    """Random weights of a size at which videos end at different places."""
    rng = np.random.default_rng(5)

    def fill(path: tuple[Any, ...], x: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
        size = 0.1 if x.ndim == 1 else np.prod(x.shape[:-1]) ** -0.5
        return (rng.normal(size=x.shape) * size).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(fill, METHOD.variable_shapes())
    for name, module in variables["params"].items():
        if name.startswith("exits"):
            module["kernel"] *= 3
        elif name.startswith("gates"):
            module["bias"] += 0.22 if name == "gates_0" else 0.03
    return variables


@functools.cache
def _model(how: Exit = "gates") -> Model:
    config = dataclasses.replace(CONFIG, exit=how)
    return Model(Config(method="frameexit", model=config), _variables())


@functools.cache
def _embeddings() -> np.ndarray:
    """float64 [B, T, W], every frame's by itself."""
    embed = jax.jit(functools.partial(METHOD.module().apply, method="embed"))
    return np.float64(embed(_variables(), CLIPS, jnp.ones((VIDEOS, FRAMES), bool), Mode())[0])


def _gate(index: int, before: np.ndarray, now: np.ndarray) -> float:
    """A gate's logit on one video, in plain NumPy."""
    params, stats = (_variables()[kind][f"gates_{index}"] for kind in ("params", "batch_stats"))
    read = []
    for x in (before, now):
        for layer in range(2):
            norm, known = params[f"norm_{layer}"], stats[f"norm_{layer}"]
            x = x @ params[f"kernel_{layer}"]
            x = (x - known["mean"]) / np.sqrt(known["var"] + 1e-5) * norm["scale"] + norm["bias"]
            x = np.maximum(x, 0)
        read.append(x)
    return float(np.concatenate(read) @ params["kernel"][:, 0] + params["bias"][0])


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def _classify(place: int, maximum: np.ndarray) -> np.ndarray:
    head = _variables()["params"][f"exits_{min(place, STEPS - 1)}"]
    return maximum @ head["kernel"] + head["bias"]


def _expected(
    how: Exit, lengths: np.ndarray, penalty: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Frames looked at, bool [B, T], and logits [B, C]: video by video, in plain NumPy."""
    looked, logits = np.zeros((VIDEOS, FRAMES), bool), np.zeros((VIDEOS, CLASSES))
    for video, length in enumerate(lengths):
        before = np.zeros(4096)
        for place, frame in enumerate(coarse_to_fine(int(length))):
            looked[video, frame] = True
            now = np.maximum(before, _embeddings()[video, frame])
            logits[video] = _classify(place, now)
            if place == 0 or how == "confidence":
                p = _softmax(logits[video]).max()
                rule = np.log(CONFIDENCE / (1 - CONFIDENCE)) - np.log(p / (1 - p))
            else:
                rule = _gate(min(place, STEPS - 2) - 1, before, now)
            if rule - penalty < 0:
                break
            before = now
    return looked, logits


def _found(how: Exit, lengths: np.ndarray, form: str, penalty: float = 0.0) -> Result:
    """Always with a mask, so that a form is compiled once."""
    options: dict[str, Any] = {"routing": "masked"} if form == "masked" else {"chunks": (1,)}
    return _model(how)(CLIPS, num_frames=lengths, cost_penalty=penalty, **options)


# --- Where a video ends -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["gates", "confidence"])
@pytest.mark.parametrize("lengths", [ALL, LENGTHS], ids=["whole", "padded"])
def test_both_forms_are_the_plain_loop_over_one_videos_frames(
    how: Exit, lengths: np.ndarray
) -> None:
    looked, logits = _expected(how, lengths)
    valid = np.arange(FRAMES) < lengths[:, None]
    for form in ("masked", "routed"):
        found = _found(how, lengths, form)
        np.testing.assert_array_equal(found.actions, np.where(valid, np.where(looked, 0, 1), -1))
        np.testing.assert_allclose(found.logits, logits, atol=1e-4 * np.abs(logits).max())
        np.testing.assert_array_equal(found.calls[f"{SIZE}px"], looked.sum(1))
        # No frame is computed after a video has ended, and the loop ends with the last video.
        routed = form == "routed"
        computed = {
            f"{SIZE}px": looked.sum() if routed else VIDEOS * FRAMES,
            "gate": VIDEOS * (looked.sum(1).max() if routed else FRAMES),
        }
        if how == "confidence":
            del computed["gate"]
        assert found.executed == computed
    assert len(set(looked.sum(1))) > 1, "not all videos end alike"
    assert looked.sum() < valid.sum(), "some work is left out"


@pytest.mark.parametrize("penalty", [-0.5, 0.3, 50.0])
def test_a_penalty_of_looking_ends_videos_earlier(penalty: float) -> None:
    looked, _ = _expected("gates", ALL, penalty)
    found = _found("gates", ALL, "routed", penalty)
    np.testing.assert_array_equal(found.actions == 0, looked)
    as_trained, _ = _expected("gates", ALL)
    assert (looked.sum() - as_trained.sum()) * penalty <= 0
    if penalty == 50:
        assert looked.sum() == found.executed["gate"] == VIDEOS


def test_imposed_frames_are_looked_at_in_the_same_order() -> None:
    actions = np.ones((VIDEOS, FRAMES), np.int32)
    for video in range(VIDEOS):
        actions[video, list(ORDER[: video + 1])] = 0
    keys = example_keys(0, jnp.zeros(VIDEOS, jnp.int32), jnp.arange(VIDEOS))
    request = Request(CLIPS, keys, forced_actions=actions)
    for routing in ("masked", "routed"):
        infer = make_inference(METHOD, routing=routing, chunks=(1,))
        result = infer(_variables(), request, jnp.float32(0.0))
        np.testing.assert_array_equal(result.actions, actions)
        for video in range(VIDEOS):
            maximum = _embeddings()[video, actions[video] == 0].max(0)
            np.testing.assert_allclose(result.logits[video], _classify(video, maximum), atol=1e-3)
    assert result.executed[f"{SIZE}px"][0] == actions.size - actions.sum()


def test_its_control_deals_the_same_exits_out_to_other_videos() -> None:
    lengths = np.array([6, 6, 4, 6, 4, 6, 6, 1, 6])
    counts = np.array([1, 6, 2, 3, 4, 1, 2, 1, 5])
    actions = np.full((len(lengths), FRAMES), -1)
    for video, (length, count) in enumerate(zip(lengths, counts)):
        order = list(coarse_to_fine(int(length)))
        actions[video, order] = np.where(np.arange(length) < count, 0, 1)
    draws = [METHOD.control_actions(actions, np.random.default_rng(i)) for i in range(20)]
    for drawn in draws:
        np.testing.assert_array_equal(drawn == -1, actions == -1)
        for length in (1, 4, 6):
            of_length = lengths == length
            dealt = (drawn[of_length] == 0).sum(1)
            np.testing.assert_array_equal(np.sort(dealt), np.sort(counts[of_length]))
            for row, count in zip(drawn[of_length], dealt):
                assert set(np.flatnonzero(row == 0)) == set(coarse_to_fine(length)[:count])
    firsts = {int((drawn[0] == 0).sum()) for drawn in draws}
    assert firsts == {1, 2, 3, 5, 6}, "any video may get any number"


def test_the_rule_of_confidence() -> None:
    logits = np.array([[2.0, 0.0, -1.0], [0.1, 0.0, 0.2], [40.0, 0.0, 0.0]], np.float32)
    p = np.array([_softmax(np.float64(row)).max() for row in logits])
    others = 1 - p[:2]
    expected = np.log(0.7 / 0.3) - np.log(p[:2] / others)
    found = np.asarray(confidence_logit(logits, 0.7))
    np.testing.assert_allclose(found[:2], expected, rtol=1e-5)
    np.testing.assert_array_equal(found < 0, p > 0.7)
    assert found[2] == pytest.approx(np.log(0.7 / 0.3) - 40 + np.log(2), rel=1e-5)


# --- What it costs ------------------------------------------------------------------------------


def test_ten_frames_cost_what_is_published() -> None:
    """41.2 without exit: ten frames of 4.1094 + .0103 GFLOPs."""
    method = FrameExit(FrameExitConfig(num_classes=200))
    networks = method.networks()
    each = total_gflops(networks, method.choices.expected(np.array([1.0, 0.0]), 1), "paper")
    assert each == pytest.approx(4.1196, abs=3e-4)
    assert 10 * each == pytest.approx(41.2, abs=0.01)
    plain = FrameExit(FrameExitConfig(num_classes=200, exit="confidence"))
    assert plain.choice_gflops("paper")[0] == pytest.approx(each - gate_macs() / 1e9, rel=1e-9)


def test_a_gates_macs_are_those_of_its_products() -> None:
    gate, pair = Gate(), jax.ShapeDtypeStruct((1, 4096), jnp.float32)
    variables = jax.eval_shape(gate.init, jax.random.key(0), pair, pair)
    assert count_macs(gate.apply, variables, pair, pair) == gate_macs()


# --- What teaches it ----------------------------------------------------------------------------

LABELS = np.array([[2, -1], [0, 1], [3, -1]])
CONTEXT = LossContext(jnp.asarray(LABELS), jnp.zeros(2))


def _cross_entropies(logits: np.ndarray) -> np.ndarray:
    return np.array(
        [
            [-np.log(_softmax(row)[LABELS[video, 0]]) for row in rows]
            for video, rows in enumerate(np.float64(logits))
        ]
    )


def _outputs(**outputs: np.ndarray) -> Prediction:
    return Prediction(jnp.zeros(()), {}, {}, outputs=outputs)


def test_every_exit_is_the_mean_of_all_cross_entropies() -> None:
    logits = RNG.normal(size=(3, 5, CLASSES)).astype(np.float32)
    found = EveryExit()(_outputs(exit_logits=logits), CONTEXT)
    assert found == pytest.approx(_cross_entropies(logits).mean(), rel=1e-5)


def test_gates_are_taught_to_go_on_while_the_loss_is_above_a_bound_that_grows() -> None:
    logits = 2 * RNG.normal(size=(3, 5, CLASSES)).astype(np.float32)
    gates, beta = RNG.normal(size=(3, 3)).astype(np.float32), 0.3
    losses = _cross_entropies(logits)
    targets = losses > beta * np.exp(np.arange(5) / 2)
    assert targets.any() and not targets.all()
    np.testing.assert_array_equal(go_on_targets(logits, jnp.asarray(LABELS), beta), targets)
    p = 1 / (1 + np.exp(-np.float64(gates)))
    inner = targets[:, 1:-1]
    expected = -np.mean(np.where(inner, np.log(p), np.log(1 - p)))
    outputs = _outputs(exit_logits=logits, gate_logits=gates)
    assert ExitGates(beta=beta)(outputs, CONTEXT) == pytest.approx(expected, rel=1e-5)
    nothing = _outputs(exit_logits=logits[:, :2], gate_logits=gates[:, :0])
    assert ExitGates()(nothing, CONTEXT) == 0


def test_gates_learn_alone_and_everything_else_behaves_as_in_evaluation() -> None:
    classify, gate = FrameExit.stages().values()
    for path in (("backbone_0", "backbone"), ("exits_0", "kernel")):
        assert METHOD.part_of(classify, path) == MODEL
        assert METHOD.part_of(gate, path) == FROZEN
    assert METHOD.part_of(classify, ("gates_1", "kernel")) == FROZEN
    assert METHOD.part_of(gate, ("gates_1", "kernel")) == MODEL
    assert gate.select == "last"
    keys = example_keys(0, jnp.zeros(VIDEOS, jnp.int32), jnp.arange(VIDEOS))
    modes = [
        METHOD.training_mode(stage, keys, Moment(jnp.int32(0), jnp.float32(0)))
        for stage in (classify, gate)
    ]
    assert [mode.trains("backbone_0") for mode in modes] == [True, False]
    assert [mode.trains("gates") for mode in modes] == [False, True]
    both = FrameExitStage(losses={"every_exit": EveryExit(), "exit_gates": ExitGates()})
    assert both.trains_gates and both.trains_network
    off = FrameExitStage(losses={"accuracy": Accuracy(), "exit_gates": ExitGates(0.0)})
    assert off.trains_network and not off.trains_gates


def test_a_gates_loss_moves_gates_alone() -> None:
    stage = FrameExit.stages()["gate"]
    keys = example_keys(0, jnp.zeros(3, jnp.int32), jnp.arange(3))
    mode = METHOD.training_mode(stage, keys, Moment(jnp.int32(0), jnp.float32(0)))
    variables = _variables()

    def loss(params: Any) -> tuple[jax.Array, Any]:
        given = {**variables, "params": params}
        prediction, stats = METHOD.predict_in_training(
            stage, given, {"frames": CLIPS[:3, :4]}, mode, None
        )
        return ExitGates(beta=0.1)(prediction, CONTEXT), stats

    grads, stats = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    for name, tree in grads.items():
        moved = any(np.any(x) for x in jax.tree.leaves(tree))
        # Four frames ask the gates of the second and third place.
        assert moved == (name in ("gates_0", "gates_1")), name
    before = variables["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, stats["backbone_0"], before["backbone_0"])
    assert np.any(stats["gates_0"]["norm_0"]["mean"] != before["gates_0"]["norm_0"]["mean"])


# --- How it is configured -----------------------------------------------------------------------


def test_variants() -> None:
    config = load_config("activitynet:frameexit,imagenet")
    assert (config.method, config.model.head, config.data.num_frames) == (
        "frameexit",
        "max_mlp",
        10,
    )
    assert config.stage_order == ("classify", "gate")
    assert list(config.pretrained.weights) == ["backbone_0"]
    control = load_config("activitynet:frameexit_confidence")
    assert control.model.exit == "confidence" and control.stage_order == ("classify",)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({"head": "mean"}, "model.head: frameexit is made of 'max_mlp'"),
        ({"steps": 2}, "model.steps"),
        ({"confidence": 1.0}, "model.confidence"),
        ({"exit": "never"}, "model.exit"),
    ],
)
def test_impossible_configs_are_refused_by_name(model: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        Config.from_dict({"method": "frameexit", "model": model})


def test_it_takes_no_video_frame_by_frame() -> None:
    with pytest.raises(UserError, match="has to have the whole of it"):
        _model().stream()


def test_how_a_choice_is_told() -> None:
    method = FrameExit(FrameExitConfig())
    assert [method.tell(choice) for choice in range(2)] == ["224 px", "not looked at"]
    assert [method.side_of(choice) for choice in range(2)] == [224, 0]
