"""MultiAgent: how its agents move, what they look at, what that costs, how they learn."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.costs import total_gflops
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import Model
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.losses import LossContext
from ar_net_jax.methods import FROZEN, MODEL, Moment, Prediction
from ar_net_jax.methods.multi_agent import MultiAgent, MultiAgentConfig
from ar_net_jax.methods.multi_agent_losses import Moves, move_rewards
from ar_net_jax.methods.multi_agent_module import GRU, AgentPolicy, keep_order
from ar_net_jax.methods.uniform import Uniform, UniformConfig
from ar_net_jax.ops.resize import prepare_frames
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.training.stage_loss import StageLoss

VIDEOS, FRAMES, CLASSES, STEPS, AGENTS = 4, 8, 4, 3, 2
SMALL = MultiAgentConfig(
    num_classes=CLASSES,
    backbone="resnet8_tiny",
    resolution=24,
    agents=AGENTS,
    stride=2,
    steps=STEPS,
    hidden_size=5,
)
METHOD = MultiAgent(SMALL)
LENGTHS = np.array([8, 1, 3, 6])
RNG = np.random.default_rng(0)
# Each frame of a colour of its own, so that features, and with them the moves, differ.
COLOURS = RNG.integers(0, 200, (VIDEOS, FRAMES, 1, 1, 3))
CLIPS = (COLOURS + RNG.integers(0, 56, (VIDEOS, FRAMES, 24, 24, 3))).astype(np.uint8)
# Of the weights: at which some videos are done early and agents come to known frames.
SEED = 0


@functools.cache
def _variables() -> dict[str, Any]:
    """Random weights of a size at which features matter."""
    rng = np.random.default_rng(SEED)

    def fill(path: tuple[Any, ...], x: jax.ShapeDtypeStruct) -> np.ndarray:
        names = {part.key for part in path}
        if names & {"scale", "var"}:
            return rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
        size = 0.1 if x.ndim == 1 else np.prod(x.shape[:-1]) ** -0.5
        return (rng.normal(size=x.shape) * size * (8 if "move" in names else 1)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, METHOD.variable_shapes())


@functools.cache
def _model() -> Model:
    return Model(Config(method="multi_agent", model=SMALL), _variables())


@functools.cache
def _features() -> np.ndarray:
    """Pooled features [B, T, D], by a Uniform's module."""
    config = UniformConfig(num_classes=CLASSES, backbone="resnet8_tiny", resolution=24)
    weights = {kind: {"backbone_0": t["backbone_0"]} for kind, t in _variables().items()}

    def run(module: Any, frames: jax.Array) -> jax.Array:
        network = module.backbone_0
        return network.features(prepare_frames(frames, 24, config.resize, network.normalisation))

    apply = jax.jit(functools.partial(Uniform(config).module().apply, method=run))
    found = apply(weights, CLIPS.reshape(-1, *CLIPS.shape[2:]))
    return np.asarray(found, np.float64).reshape(VIDEOS, FRAMES, -1)


# --- The model in plain NumPy -------------------------------------------------------------------


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _gru(x: np.ndarray, h: np.ndarray) -> np.ndarray:
    own = _variables()["params"]["policy"]["gru"]
    given = np.split(x @ np.float64(own["kernel_ih"]) + own["bias_ih"], 3)
    kept = np.split(h @ np.float64(own["kernel_hh"]) + own["bias_hh"], 3)
    reset, update = (_sigmoid(given[i] + kept[i]) for i in range(2))
    return (1 - update) * np.tanh(given[2] + reset * kept[2]) + update * h


def _frame_logits(video: int) -> np.ndarray:
    head = _variables()["params"]["backbone_0"]["head"]
    return _features()[video] @ np.float64(head["kernel"]) + head["bias"]


def _move(places: list[int], wanted: list[int], length: int) -> list[int]:
    """Each stops at an end, or where its neighbour was; then the later of two never is before."""
    ends = [0, *places, length - 1]
    after = [min(max(want, ends[i]), ends[i + 2]) for i, want in enumerate(wanted)]
    return [max(after[: i + 1]) for i in range(len(after))]


def _walk(video: int, length: int) -> list[list[int]]:
    """Places of the agents before the first step and after each."""
    head = _variables()["params"]["policy"]["move"]
    parts = min(length, AGENTS)
    places = [min(int((j + 0.5) * length / parts), length - 1) for j in range(AGENTS)]
    states, found = [np.zeros(SMALL.hidden_size)] * AGENTS, [places]
    for _ in range(STEPS):
        rows = [_features()[video, place] for place in places]
        nothing = np.zeros_like(rows[0])
        around = [nothing, *rows, nothing]
        states = [_gru(np.concatenate(around[i : i + 3]), states[i]) for i in range(AGENTS)]
        moves = [int(np.argmax(h @ head["kernel"] + head["bias"])) - 1 for h in states]
        places = _move(places, [p + SMALL.stride * m for p, m in zip(places, moves)], length)
        found.append(places)
        if not any(moves):
            break
    return found


@pytest.mark.parametrize("lengths", [np.full(VIDEOS, FRAMES), LENGTHS], ids=["whole", "padded"])
def test_agents_move_as_in_numpy_and_no_frame_is_computed_twice(lengths: np.ndarray) -> None:
    whole = (lengths == FRAMES).all()
    walks = [_walk(video, length) for video, length in enumerate(lengths)]
    looked = [set(sum(walk, [])) for walk in walks]
    actions = np.where(np.arange(FRAMES) < lengths[:, None], 1, -1)
    for row, places in zip(actions, looked):
        row[list(places)] = 0
    logits = [_frame_logits(video)[walk[-1]].mean(0) for video, walk in enumerate(walks)]
    steps = [len(walk) - 1 for walk in walks]
    kinds = {"routed": {"chunks": (1,)}} | ({"masked": {"routing": "masked"}} if whole else {})
    for name, kind in kinds.items():
        found = _model()(CLIPS, num_frames=None if whole else lengths, **kind)
        np.testing.assert_array_equal(found.actions, actions, err_msg=name)
        np.testing.assert_allclose(found.logits, logits, atol=1e-4)
        np.testing.assert_array_equal(found.calls["24px"], [len(places) for places in looked])
        np.testing.assert_array_equal(found.calls[GRU], np.array(steps) * AGENTS)
        routed = name == "routed"
        assert found.executed["24px"] == (sum(map(len, looked)) if routed else VIDEOS * FRAMES)
        assert found.executed[GRU] == VIDEOS * AGENTS * (max(steps) if routed else STEPS)
    if whole:
        assert len(set(steps)) > 1, "some are done early"
        assert any(len(walk) * AGENTS > len(seen) for walk, seen in zip(walks, looked))
        assert len({str(walk) for walk in walks}) > 1


@pytest.mark.parametrize(
    ("places", "proposed", "after"),
    [
        ([1, 4, 6], [0, 5, 7], [0, 5, 7]),
        ([0, 4, 7], [-2, 4, 9], [0, 4, 7]),
        ([1, 2, 6], [3, 2, 6], [2, 2, 6]),
        ([1, 2, 6], [1, 0, 6], [1, 1, 6]),
        ([1, 2, 6], [3, 0, 6], [2, 2, 6]),
        ([3, 3, 3], [1, 3, 5], [1, 3, 5]),
        ([3, 3, 3], [5, 3, 1], [3, 3, 3]),
    ],
    ids=["free", "ends", "caught up", "caught up back", "exchanged", "together", "through"],
)
def test_agents_do_not_pass_each_other(places: list, proposed: list, after: list) -> None:
    found = keep_order(*(jnp.asarray([x]) for x in (places, proposed)), jnp.array([8]))
    assert found[0].tolist() == after == _move(places, proposed, 8)


def test_an_agent_sees_as_many_neighbours_as_there_are() -> None:
    policy, rows = AgentPolicy(3, 2, 4), np.arange(9.0).reshape(1, 3, 3)
    found = policy.apply({}, jnp.asarray(rows), method="observe")
    first, nothing = rows[0], np.zeros(3)
    np.testing.assert_array_equal(
        found[0],
        [
            np.concatenate([nothing, nothing, first[0], first[1], first[2]]),
            np.concatenate([nothing, first[0], first[1], first[2], nothing]),
            np.concatenate([first[0], first[1], first[2], nothing, nothing]),
        ],
    )


def _keys(count: int) -> jax.Array:
    return example_keys(0, jnp.zeros(count, jnp.int32), jnp.arange(count))


def test_imposed_frames_are_averaged_however_many() -> None:
    actions = np.array([[1, 0, 1, 1, 0, 1, 1, 0], [1] * 8, [0] + [1] * 7, [1] * 6 + [0, 0]])
    request = Request(CLIPS, _keys(VIDEOS), forced_actions=actions)
    found = make_inference(METHOD, chunks=(1,))(_model().variables, request, jnp.float32(0.0))
    np.testing.assert_array_equal(found.actions, actions)
    for video, row in enumerate(actions):
        kept = _frame_logits(video)[row == 0]
        expected = kept.mean(0) if len(kept) else np.zeros(CLASSES)
        np.testing.assert_allclose(found.logits[video], expected, atol=1e-4)
    assert int(found.executed["24px"][0]) == (actions == 0).sum()


# --- Costs, words, configs ----------------------------------------------------------------------


def test_costs_at_the_papers_sizes() -> None:
    """Distinct frames x 7.8 and the agents' steps, counted as multiply-accumulates."""
    networks = MultiAgent(MultiAgentConfig(num_classes=200, hidden_size=1024)).networks()
    step = 3 * 1024 * (3 * 2048 + 1024) + 1024 * 3
    assert networks[GRU].gflops("macs") == pytest.approx(step / 1e9, rel=1e-9)
    assert total_gflops(networks, {"224px": 2, GRU: 0}, "macs") == pytest.approx(15.6, abs=0.01)
    assert total_gflops(networks, {"224px": 5, GRU: 30}, "macs") == pytest.approx(
        5 * networks["224px"].gflops("macs") + 30 * step / 1e9
    )


def test_how_it_is_told() -> None:
    assert [METHOD.tell(choice) for choice in range(2)] == ["24 px", "not looked at"]
    with pytest.raises(UserError, match="agents all over a video"):
        METHOD.stream({})


@pytest.mark.parametrize(
    ("model", "losses", "named"),
    [
        ({"agents": 0}, {}, "model.agents"),
        ({"stride": 0}, {}, "model.stride"),
        ({"steps": 0}, {}, "model.steps"),
        ({"neighbours": -1}, {}, "model.neighbours"),
        ({}, {"moves": {"discount": 1.5}}, "stages.joint.losses.moves.discount"),
        ({}, {"moves": {"entropy": -1.0}}, "stages.joint.losses.moves.entropy"),
        ({}, {"selection": {}}, "stages.joint.losses.selection"),
    ],
)
def test_impossible_configs_are_refused_by_name(model: dict, losses: dict, named: str) -> None:
    stages = {"joint": {"losses": {"accuracy": {}, **losses}}}
    values = {"model": model, "stage_order": ("joint",), "stages": stages}
    with pytest.raises(UserError, match=named):
        Config.from_dict({"method": "multi_agent", **values})


# --- Training -----------------------------------------------------------------------------------


def _outputs() -> dict[str, np.ndarray]:
    """Of two videos, whose agents moved three times, those of the second only once."""
    rng = np.random.default_rng(1)
    places = rng.integers(0, FRAMES, (2, 4, AGENTS))
    places[1, 2:] = places[1, 1]
    return {
        "frame_logits": rng.normal(size=(2, FRAMES, CLASSES)).astype(np.float32) * 2,
        "places": places,
        "moved": np.array([[True, True, True], [True, False, False]]),
        "move_log_probability": rng.normal(size=(2, 3, AGENTS)).astype(np.float32),
        "move_entropy": rng.uniform(size=(2, 3, AGENTS)).astype(np.float32),
    }


LABELS = np.array([[1, -1], [3, 0]])


def _rewards() -> np.ndarray:
    given, found = _outputs(), np.zeros((2, 3, AGENTS))
    for video, step, agent in np.ndindex(found.shape):
        before, after = (
            given["frame_logits"][video, given["places"][video, step + i, agent]] for i in (0, 1)
        )
        label = LABELS[video, 0]
        shares = [(np.exp(x) / np.exp(x).sum())[label] for x in (before, after)]
        right = [int(x.argmax() == label) for x in (before, after)]
        turned = right[1] - right[0]
        found[video, step, agent] = turned if turned else shares[1] - shares[0]
    return found


def test_rewards_are_flips_or_else_changes_of_the_right_classs_probability() -> None:
    given = _outputs()
    found = move_rewards(
        jnp.asarray(given["frame_logits"]), jnp.asarray(given["places"]), jnp.asarray(LABELS[:, 0])
    )
    np.testing.assert_allclose(found, _rewards(), atol=1e-6)
    assert {-1, 1} <= set(_rewards().flat) and ((0 < found) & (found < 1)).any()


def test_the_loss_is_reinforce_with_the_steps_mean_return_and_entropy() -> None:
    given, rewards = _outputs(), _rewards()
    returns, done = np.zeros_like(rewards), ~given["moved"]
    for step in (2, 1, 0):
        later = returns[:, step + 1] if step < 2 else 0
        returns[:, step] = rewards[:, step] + 0.9 * later
    means = [returns[~done[:, step], step].mean() for step in range(3)]
    advantage = returns - np.array(means)[:, None]
    advantage[done] = 0
    entropy = np.where(done[..., None], 0, given["move_entropy"])
    expected = -np.mean(advantage * given["move_log_probability"]) - 0.01 * entropy.mean()

    def run(log_probability: Any, frame_logits: Any) -> jax.Array:
        outputs = {k: jnp.asarray(v) for k, v in given.items()}
        outputs |= {"move_log_probability": log_probability, "frame_logits": frame_logits}
        prediction = Prediction(jnp.zeros((2, CLASSES)), {}, {}, outputs=outputs)
        return Moves()(prediction, LossContext(jnp.asarray(LABELS), jnp.zeros(2)))

    both = jax.jit(jax.value_and_grad(run, (0, 1)))
    found, (slope, none) = both(given["move_log_probability"], given["frame_logits"])
    assert float(found) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(slope, -advantage / advantage.size, atol=1e-6)
    np.testing.assert_array_equal(none, 0)


@pytest.mark.slow
def test_a_joint_stage_trains_classifier_and_agents() -> None:
    variables, moment = _variables(), Moment(jnp.int32(0), jnp.float32(0.0))
    batch = {
        "frames": jnp.asarray(CLIPS),
        "labels": jnp.array([[0, -1], [1, -1], [2, -1], [3, -1]]),
        "epoch": jnp.zeros(VIDEOS, jnp.int32),
        "example_id": jnp.arange(VIDEOS),
    }
    grad = jax.jit(jax.grad(StageLoss(METHOD, MultiAgent.stages()["joint"], 0), has_aux=True))
    gradient, (metrics, _) = grad(variables["params"], variables["batch_stats"], batch, moment)
    sizes = {
        (name, part): sum(float(abs(x).sum()) for x in jax.tree.leaves(tree))
        for name, parts in gradient.items()
        for part, tree in parts.items()
    }
    assert sizes.pop(("backbone_0", "backbone")) == 0
    assert sizes.keys() == {("backbone_0", "head"), ("policy", "gru"), ("policy", "move")}
    assert all(size > 0 for size in sizes.values())
    assert float(metrics["loss"]) == pytest.approx(
        float(metrics["loss/accuracy"] + metrics["loss/moves"]), rel=1e-5
    )


def test_drawn_moves_have_the_policys_probabilities() -> None:
    count = 500
    mode = METHOD.training_mode(MultiAgent.stages()["joint"], _keys(count), None)
    start = jnp.zeros((count, AGENTS), jnp.int32)
    noise = METHOD.module().apply({}, start, mode, method="_noise")
    assert noise.shape == (count, STEPS, AGENTS, 3)
    wanted = np.array([0.2, 0.5, 0.3])
    drawn = np.asarray(jnp.argmax(np.log(wanted) + noise, axis=-1)).ravel()
    shares = np.bincount(drawn, minlength=3) / drawn.size
    np.testing.assert_allclose(shares, wanted, atol=0.03)


def test_the_usual_training_is_the_backbone_then_the_agents() -> None:
    config = load_config("activitynet:multi_agent,imagenet")
    method = config.build_method()
    assert config.stage_order == ("warmup", "joint")
    joint = config.stages["joint"]
    assert method.separate_parts(config.stages["warmup"]) == ("backbone_0",)
    assert method.part_of(joint, ("backbone_0", "backbone", "conv1")) == FROZEN
    assert method.part_of(joint, ("backbone_0", "head", "kernel")) == MODEL
    assert method.part_of(joint, ("policy", "gru")) == MODEL
    assert list(config.pretrained.weights) == ["backbone_0"]
