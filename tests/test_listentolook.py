"""ListenToLook: what its attention picks, what it makes of that, what that costs, how it learns."""

import dataclasses
import functools
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.config.optimizer import OptimizerConfig
from ar_net_jax.costs import total_gflops, usage_gflops
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import Model
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.methods import FROZEN, MODEL, Moment
from ar_net_jax.methods.listentolook import ListenToLook, ListenToLookConfig, ListenToLookStage
from ar_net_jax.methods.uniform import Uniform, UniformConfig
from ar_net_jax.modules.query_attention import QueryAttention, attend
from ar_net_jax.ops.resize import prepare_frames
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.training.optimizer import make_optimizer
from ar_net_jax.training.stage_loss import StageLoss
from ar_net_jax.training.state import TrainState
from ar_net_jax.training.steps import make_train_step

VIDEOS, FRAMES, CLASSES, PICKED = 3, 5, 4, 2
HIDDEN, WIDTH = 7, 6
SMALL = ListenToLookConfig(
    num_classes=CLASSES,
    backbone="resnet8_tiny",
    resolution=24,
    preview_backbone="resnet8_tiny",
    preview_resolution=16,
    hidden_size=HIDDEN,
    attention_width=WIDTH,
    frames=PICKED,
    # Nothing is to be drawn where sums are compared.
    dropout=0.0,
)
METHOD = ListenToLook(SMALL)
LENGTHS = np.array([5, 1, 3])
MASK = np.arange(FRAMES) < LENGTHS[:, None]
RNG = np.random.default_rng(0)
# Each frame of a colour of its own, so that features, and with them the picks, differ.
COLOURS = RNG.integers(0, 200, (VIDEOS, FRAMES, 1, 1, 3))
CLIPS = (COLOURS + RNG.integers(0, 56, (VIDEOS, FRAMES, 24, 24, 3))).astype(np.uint8)


def _fill(path: tuple[Any, ...], x: jax.ShapeDtypeStruct) -> np.ndarray:
    """Random weights of a size at which features matter."""
    rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
    if path[-1].key in ("scale", "var"):
        return rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
    size = 0.1 if x.ndim == 1 else 2 * np.prod(x.shape[:-1]) ** -0.5
    return (rng.normal(size=x.shape) * size).astype(np.float32)


@functools.cache
def _variables() -> dict[str, Any]:
    return jax.tree_util.tree_map_with_path(_fill, METHOD.variable_shapes())


@functools.cache
def _model(frames: int = PICKED) -> Model:
    model = dataclasses.replace(SMALL, frames=frames)
    return Model(Config(method="listentolook", model=model), _variables())


@functools.cache
def _alone(module: str, side: int) -> np.ndarray:
    """What a network makes of every frame [B, T, D], by Uniform: logits, the previewer features."""
    uniform = Uniform(UniformConfig(num_classes=CLASSES, backbone="resnet8_tiny", resolution=side))
    weights = {kind: {"backbone_0": tree[module]} for kind, tree in _variables().items()}

    def run(bound: Any, frames: jax.Array) -> jax.Array:
        network = bound.backbone_0
        x = prepare_frames(frames, side, "nearest", network.normalisation)
        return network.features(x) if module == "preview" else network(x)

    found = jax.jit(functools.partial(uniform.module().apply, method=run))(
        weights, CLIPS.reshape(-1, *CLIPS.shape[2:])
    )
    return np.asarray(found, np.float64).reshape(VIDEOS, FRAMES, -1)


# --- The attention in plain NumPy ---------------------------------------------------------------


def _embedded(part: dict[str, Any], known: dict[str, Any], x: np.ndarray, train: bool) -> Any:
    """Product, BatchNorm, ReLU."""
    x, norm, stats = x @ np.float64(part["kernel"]), part["norm"], known["norm"]
    rows = x.reshape(-1, x.shape[-1])
    mean, var = (rows.mean(0), rows.var(0)) if train else (stats["mean"], stats["var"])
    return np.maximum((x - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"], 0)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _attended(
    variables: dict[str, Any], features: np.ndarray, mask: np.ndarray, steps: int, train: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and picks [B, K, T], frame by frame."""
    params, stats = variables["params"], variables["batch_stats"]
    cell = {name: np.float64(value) for name, value in params["cell"].items()}
    keys = _embedded(params["key"], stats["key"], features, train)
    videos, frames = mask.shape
    given = np.stack([x[valid].mean(0) for x, valid in zip(features, mask)])
    h = c = np.zeros((videos, HIDDEN))
    taken: list[list[int]] = [[] for _ in range(videos)]
    weights, picks = np.zeros((2, videos, steps, frames))
    for step in range(steps):
        gates = given @ cell["kernel_ih"] + cell["bias_ih"] + h @ cell["kernel_hh"]
        i, f, g, o = np.split(gates + cell["bias_hh"], 4, axis=1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        hidden = _embedded(params["query_hidden"], stats["query_hidden"], h, train)
        query = hidden @ np.float64(params["query"]["kernel"]) + params["query"]["bias"]
        for video in range(videos):
            free = [t for t in range(frames) if mask[video, t] and t not in taken[video]]
            if not free:
                given[video] = 0
                continue
            scores = keys[video, free] @ query[video] / np.sqrt(WIDTH)
            softmax = np.exp(scores) / np.exp(scores).sum()
            weights[video, step, free] = softmax
            best = free[int(np.argmax(scores))]
            picks[video, step, best] = 1
            taken[video].append(best)
            given[video] = softmax @ features[video, free] if train else features[video, best]
    return weights, picks.astype(bool)


def _by_hand(mask: np.ndarray, steps: int, train: bool) -> tuple[np.ndarray, np.ndarray]:
    variables = {kind: tree["attention"] for kind, tree in _variables().items()}
    return _attended(variables, _alone("preview", 16), mask, steps, train)


@pytest.mark.parametrize("train", [False, True])
def test_attention_is_that_in_plain_numpy(train: bool) -> None:
    module = QueryAttention(features=3, hidden=HIDDEN, width=WIDTH)
    features = RNG.normal(size=(VIDEOS, FRAMES, 3)).astype(np.float32)
    init = functools.partial(module.init, jax.random.key(0), steps=1)
    variables = jax.tree_util.tree_map_with_path(_fill, jax.eval_shape(init, features, MASK))
    run = jax.jit(
        functools.partial(module.apply, steps=4, train=train, mutable=["batch_stats"] * train)
    )
    found, after = run(variables, features, MASK)
    weights, picks = _attended(variables, np.float64(features), MASK, 4, train)
    np.testing.assert_allclose(found.weights, weights, atol=2e-5)
    np.testing.assert_array_equal(found.picks, picks)
    np.testing.assert_array_equal(found.picked, picks.any(1))
    np.testing.assert_array_equal(picks.sum((1, 2)), np.minimum(4, LENGTHS), "none twice")
    assert len({tuple(row.argmax(-1)) for row in picks[:, :1]}) > 1, "not all the same"
    if train:
        moved = jax.tree.map(np.array_equal, after["batch_stats"], variables["batch_stats"])
        assert not any(jax.tree.leaves(moved)), "statistics of keys and queries"


def test_nothing_is_attended_to_where_nothing_is_free() -> None:
    query, keys = np.ones((2, WIDTH), np.float32), RNG.normal(size=(2, 3, WIDTH))
    keys = keys.astype(np.float32)
    keys[1, 1] = keys[1, 2] = 5  # Of equals the first.
    free = np.array([[False] * 3, [True] * 3])
    weights, pick = jax.jit(attend)(query, keys, free)
    np.testing.assert_array_equal(weights[0], 0)
    np.testing.assert_array_equal(pick, [[False] * 3, [False, True, False]])
    scores = keys[1].astype(np.float64).sum(-1) / np.sqrt(WIDTH)
    np.testing.assert_allclose(weights[1], np.exp(scores) / np.exp(scores).sum(), rtol=1e-5)
    slope = jax.jit(jax.grad(lambda q: (attend(q, keys, free)[0] ** 2).sum()))(query)
    assert not slope[0].any() and np.isfinite(slope).all() and slope[1].any()


# --- The model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_the_main_networks_logits_are_averaged_over_the_picks(lengths: np.ndarray | None) -> None:
    mask = np.ones_like(MASK) if lengths is None else MASK
    picked = _by_hand(mask, PICKED, train=False)[1].any(1)
    assert len({tuple(row) for row in picked}) > 1, "not the same frames of every video"
    rows, counts = _alone("backbone_0", 24), np.minimum(PICKED, mask.sum(1))
    logits = (rows * picked[..., None]).sum(1) / counts[:, None]
    steps = VIDEOS * PICKED
    whole = {"24px": VIDEOS * FRAMES, "preview": VIDEOS * FRAMES, "attention": steps}
    needed = {"24px": counts.sum(), "preview": mask.sum(), "attention": steps}
    forms: list[tuple[dict, dict]] = [({"chunks": (1,)}, needed)]
    # Without padding, the next test looks at the other form.
    forms += [({"routing": "masked"}, whole)] if lengths is not None else []
    for form, executed in forms:
        result = _model()(CLIPS, num_frames=lengths, **form)
        assert result.executed == executed
        np.testing.assert_array_equal(result.actions, np.where(mask, np.where(picked, 0, 1), -1))
        np.testing.assert_allclose(result.logits, logits, atol=2e-5)
        np.testing.assert_array_equal(result.calls["24px"], counts)
        np.testing.assert_array_equal(result.calls["attention"], counts)
        np.testing.assert_array_equal(result.calls["preview"], mask.sum(1))


def test_fewer_frames_than_picks_are_all_looked_at() -> None:
    result = _model(FRAMES + 4)(CLIPS, routing="masked")
    np.testing.assert_array_equal(result.actions, 0)
    np.testing.assert_allclose(result.logits, _alone("backbone_0", 24).mean(1), atol=2e-5)
    np.testing.assert_array_equal(result.calls["attention"], FRAMES)


def test_what_padding_shows_is_of_no_account() -> None:
    noise = np.where(MASK[..., None, None, None], CLIPS, 255).astype(np.uint8)
    one, other = (_model()(x, num_frames=LENGTHS, routing="masked") for x in (CLIPS, noise))
    np.testing.assert_array_equal(one.actions, other.actions)
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-6)
    np.testing.assert_array_equal(one.gflops, other.gflops)


def test_imposed_frames_are_looked_at_however_many() -> None:
    actions = np.array([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 0, 0, 1, 0]])
    request = Request(CLIPS, _keys(), forced_actions=actions)
    result = make_inference(METHOD, chunks=(1,))(_variables(), request, jnp.float32(0.0))
    np.testing.assert_array_equal(result.actions, actions)
    main = _alone("backbone_0", 24)
    expected = [main[0, 0], np.zeros(CLASSES), main[2, [1, 2, 4]].mean(0)]
    np.testing.assert_allclose(result.logits, expected, atol=2e-5)
    executed = {name: int(count[0]) for name, count in result.executed.items()}
    assert executed == {
        "24px": 4,
        "preview": VIDEOS * FRAMES,
        "attention": VIDEOS * PICKED,
    }, "previewer and attention run all the same"


def _keys() -> jax.Array:
    ids = jnp.arange(VIDEOS)
    return example_keys(0, jnp.zeros_like(ids), ids)


# --- Costs and words ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "previews", "fits"), [(112, 37, True), (168, 16, True), (112, 16, False)]
)
def test_costs_of_the_published_points(side: int, previews: int, fits: bool) -> None:
    """Read off a plot, a pixel of which is .78 GFLOPs: two of the calls that come to them.

    That of seven frames, 58.67, lies a pixel above the others.
    """
    networks = ListenToLook(ListenToLookConfig(preview_resolution=side)).networks()
    for picks, published in ((10, 81.36), (5, 42.24), (3, 26.60)):
        calls = {"224px": picks, "attention": picks, "preview": previews}
        apart = abs(total_gflops(networks, calls, "macs") - published)
        assert (apart < 0.4) == fits, apart


def test_costs_by_hand_at_the_papers_sizes() -> None:
    method = ListenToLook(ListenToLookConfig())
    networks = method.networks()
    attention = 4 * 1024 * (1280 + 1024) + 1024 * 1024 + 1024 * 512
    assert networks["attention"].gflops("macs") == pytest.approx(attention / 1e9)
    main, preview = (networks[name].gflops("macs") for name in ("224px", "preview"))
    keys = 1280 * 512 / 1e9
    assert main == pytest.approx(7.80, abs=0.01)
    assert preview - keys == pytest.approx(0.081, abs=5e-4)
    usage, expected = np.array([10, 6]) / 16, 10 * (main + attention / 1e9) + 16 * preview
    found = usage_gflops(networks, method.choices, usage, "macs", 16)
    assert found == pytest.approx(expected)


def test_how_it_is_told() -> None:
    method = ListenToLook(ListenToLookConfig())
    assert [method.tell(choice) for choice in range(2)] == ["224 px", "not looked at"]
    assert [method.side_of(choice) for choice in range(2)] == [224, 0]
    assert method.choice_gflops(overhead=False)[1] == 0
    assert set(method.timed_parts()) == {"224px", "preview", "attention"}
    with pytest.raises(UserError, match="because it previews all frames before it picks one"):
        method.stream({})


@pytest.mark.parametrize(
    ("model", "stage", "named"),
    [
        ({"frames": 0}, {}, "model.frames"),
        ({"preview_resolution": 0}, {}, "model.preview_resolution"),
        ({"preview_backbone": "resnet51"}, {}, "model.preview_backbone"),
        ({"hidden_size": 0}, {}, "model.hidden_size"),
        ({}, {"trains": "preview"}, "stages.train.trains"),
        ({}, {"losses": {"accuracy": {}, "efficiency": {}}}, "stages.train.losses.efficiency"),
        ({}, {"losses": {"accuracy": {}, "separate": {}}}, "stages.train.losses.separate"),
    ],
)
def test_impossible_configs_are_refused_by_name(model: dict, stage: dict, named: str) -> None:
    stages = {"train": {"losses": {"accuracy": {}}, **stage}}
    values = {"model": model, "stage_order": ("train",), "stages": stages}
    with pytest.raises(UserError, match=named):
        Config.from_dict({"method": "listentolook", **values})


# --- Training -----------------------------------------------------------------------------------


def test_the_usual_stages() -> None:
    config = load_config("activitynet:listentolook,imagenet")
    method = config.build_method()
    assert config.stage_order == ("warmup", "joint", "finetune")
    assert list(config.pretrained.weights) == ["backbone_0", "preview"]
    parts = {
        name: {
            module: method.part_of(config.stages[name], (module, "head"))
            for module in ("backbone_0", "preview", "attention")
        }
        for name in config.stage_order
    }
    assert parts == {
        "warmup": {"backbone_0": "backbone_0", "preview": "preview", "attention": FROZEN},
        "joint": {"backbone_0": FROZEN, "preview": FROZEN, "attention": MODEL},
        "finetune": {"backbone_0": MODEL, "preview": FROZEN, "attention": FROZEN},
    }
    mode = method.training_mode(config.stages["finetune"], _keys(), Moment(jnp.int32(0), 0.0))
    trains = [mode.trains(module) for module in ("backbone_0", "preview", "attention")]
    assert trains == [True, False, False]


def test_a_model_has_the_same_parts_after_every_stage() -> None:
    """So that one of the first stage alone can be loaded, too."""
    for stage in ListenToLook.stages().values():
        init = functools.partial(METHOD.initial_variables, stage=stage)
        assert jax.eval_shape(init, jax.random.key(0)) == METHOD.variable_shapes()


@functools.cache
def _joint_step() -> tuple[TrainState, dict[str, Any]]:
    """State and metrics after a step of the joint stage."""
    stage = ListenToLookStage(losses=ListenToLook.usual_losses("joint"))
    variables = jax.tree.map(jnp.array, _variables())
    optimizer = make_optimizer(
        OptimizerConfig(weight_decay=0.0),
        lambda step: 0.1,
        variables["params"],
        part_of=functools.partial(METHOD.part_of, stage),
        heads=METHOD.head_names(),
    )
    step = make_train_step(StageLoss(METHOD, stage, 0), optimizer, None, steps_per_epoch=1)
    state = TrainState.create(variables, optimizer)
    batch = {
        "frames": CLIPS,
        "labels": np.arange(VIDEOS, dtype=np.int32)[:, None],
        "example_id": np.arange(VIDEOS, dtype=np.int32),
        "epoch": np.zeros(VIDEOS, np.int32),
    }
    return step(state, batch)


def test_the_joint_loss_is_of_the_main_networks_rows_under_the_weights() -> None:
    weights, _ = _by_hand(np.ones_like(MASK), PICKED, train=True)
    logits = np.einsum("bkt,btc->bc", weights, _alone("backbone_0", 24)) / PICKED
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    expected = -np.mean(np.log(np.diag(shifted / shifted.sum(1, keepdims=True))))
    assert float(_joint_step()[1]["loss/accuracy"]) == pytest.approx(expected, rel=1e-3)


def test_a_joint_step_moves_the_attention_alone() -> None:
    state, _ = _joint_step()
    before = {"params": _variables()["params"], "batch_stats": _variables()["batch_stats"]}
    after = {"params": state.params, "batch_stats": state.batch_stats}
    for kind, tree in before.items():
        same = jax.tree.map(np.array_equal, tree, after[kind])
        assert not any(jax.tree.leaves(same.pop("attention"))), kind
        assert all(jax.tree.leaves(same)), kind


def test_under_the_other_head_the_maximum_is_over_the_attended_rows() -> None:
    method = ListenToLook(dataclasses.replace(SMALL, head="max_mlp"))
    variables = jax.tree_util.tree_map_with_path(_fill, method.variable_shapes())
    mode = method.training_mode(
        ListenToLookStage(), _keys(), Moment(jnp.int32(0), jnp.float32(0.0))
    )

    def run(module: Any, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        everything = jnp.ones(frames.shape[:2], bool)
        rows = module._run("backbone_0", frames, everything, mode)[0]
        return rows, module(frames, mode).logits

    apply = functools.partial(method.module().apply, method=run, mutable=["batch_stats"])
    (rows, logits), _ = jax.jit(apply)(variables, CLIPS)
    # Light features, keys and queries do not depend on the head, and have the weights they had.
    weights, _ = _by_hand(np.ones_like(MASK), PICKED, train=True)
    maximum = np.einsum("bkt,btd->bkd", weights, np.float64(rows)).max(1)
    head = variables["params"]["backbone_0"]["head"]
    np.testing.assert_allclose(logits, maximum @ head["kernel"] + head["bias"], atol=1e-3)
