"""Gradient accumulation and rematerialisation: less memory, the same gradient."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ar_net_jax import backbones
from ar_net_jax.backbones import folded_norm, resnet
from ar_net_jax.config.optimizer import OptimizerConfig
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.losses import Accuracy, Efficiency, Separate, Uniform
from ar_net_jax.methods import Moment
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig, ARNetStage
from ar_net_jax.modules.policy import PolicyConfig
from ar_net_jax.training.micro_batches import split_batch
from ar_net_jax.training.optimizer import make_optimizer
from ar_net_jax.training.stage_loss import StageLoss
from ar_net_jax.training.state import TrainState
from ar_net_jax.training.steps import make_train_step

VIDEOS, FRAMES = 8, 4
METHOD = ARNet(
    ARNetConfig(
        num_classes=3,
        resolutions=(24, 16),
        backbones=("resnet8_tiny",),
        skips=(1, 2),
        policy=PolicyConfig("resnet8_tiny", 16, hidden_size=8),
    )
)
# So weighted that a frame at 24 px costs 0.1, as one of 1 GFLOP would.
LOSSES = {
    "accuracy": Accuracy(0.9),
    "efficiency": Efficiency(0.1 / float(METHOD.choice_gflops(overhead=False)[0])),
    "uniform": Uniform(0.3),
}
JOINT = ARNetStage(losses=LOSSES, learning_rate=0.1, tau_start=2.0)
STAGES = {
    "joint": JOINT,
    "warmup": ARNetStage(
        objective="separate",
        losses={"separate": Separate()},
        learning_rate=0.1,
        train_policy_features=True,
    ),
    "routed": dataclasses.replace(
        JOINT, freeze_policy="all", decisions="argmax", routing="routed", routed_chunk=3
    ),
}


@pytest.fixture
def evaluation_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """BatchNorm by running statistics, in training too."""

    def normed(*args: Any, train: bool, **options: Any) -> jax.Array:
        return folded_norm.conv_norm(*args, train=False, **options)

    monkeypatch.setattr(resnet, "conv_norm", normed)


def _batch() -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    return {
        "frames": jnp.asarray(rng.integers(0, 256, (VIDEOS, FRAMES, 24, 24, 3), np.uint8)),
        "labels": jnp.asarray(rng.integers(0, 3, (VIDEOS, 1)), jnp.int32),
        "example_id": jnp.arange(VIDEOS, dtype=jnp.int32),
        "epoch": jnp.zeros(VIDEOS, jnp.int32),
    }


@functools.cache
def _variables() -> Any:
    init = functools.partial(METHOD.initial_variables, stage=STAGES["warmup"])
    return jax.jit(init)(jax.random.key(1))


def _updates(
    stage: ARNetStage, micro_batches: int, method: ARNet = METHOD
) -> tuple[TrainState, dict[str, Any]]:
    """One step of plain gradient descent, so that the parameters move by the gradient."""
    variables = jax.tree.map(jnp.array, _variables())
    optimizer = make_optimizer(
        OptimizerConfig(clip_norm=1e9, weight_decay=0.0, momentum=0.0),
        optax.constant_schedule(1.0),
        variables["params"],
        functools.partial(method.part_of, stage),
        method.head_names(),
    )
    loss = StageLoss(method, stage, seed=3)
    step = make_train_step(loss, optimizer, steps_per_epoch=2, micro_batches=micro_batches)
    return step(TrainState.create(variables, optimizer), _batch())


def _assert_close(found: Any, expected: Any, scale: float = 1e-5) -> None:
    def compare(path: tuple, a: Any, b: Any) -> None:
        limit = scale * max(float(np.abs(b).max()), 1e-2)
        np.testing.assert_allclose(a, b, atol=limit, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(compare, found, expected)


@pytest.mark.usefixtures("evaluation_batch_norm")
@pytest.mark.parametrize(
    "name, norm",
    [
        ("joint", "squared"),
        pytest.param("joint", "euclidean", marks=pytest.mark.slow),
        pytest.param("warmup", "squared", marks=pytest.mark.slow),
        pytest.param("routed", "squared", marks=pytest.mark.slow),
    ],
)
def test_micro_batches_give_the_gradient_of_the_whole_batch(name: str, norm: str) -> None:
    # A heavy eq. 11, which is not a mean over videos: parts by themselves would get it wrong.
    stage = STAGES[name]
    if stage.objective == "joint":
        losses = {**stage.losses, "uniform": Uniform(20.0, norm)}
        stage = dataclasses.replace(stage, losses=losses)
    whole, metrics = _updates(stage, 1)
    parts, found = _updates(stage, 4)
    _assert_close(parts.params, whole.params)
    for key, value in metrics.items():
        assert float(found[key]) == pytest.approx(float(value), rel=1e-5), key
    moved = jax.tree.map(
        lambda a, b: float(np.abs(a - b).max()), whole.params, _variables()["params"]
    )
    assert max(jax.tree.leaves(moved["policy"])) > 1e-3 or name == "routed"


def test_statistics_move_once_for_each_micro_batch() -> None:
    """As if the parts had been batches, one after the other, with unchanged parameters."""
    state, _ = _updates(JOINT, 2)
    halves = split_batch(_batch(), 2, None)
    loss, stats = StageLoss(METHOD, JOINT, seed=3), _variables()["batch_stats"]
    run = jax.jit(lambda *args: loss(*args))
    moment = Moment(jnp.int32(0), jnp.float32(0))
    for index in range(2):
        half = jax.tree.map(lambda x, i=index: x[i], halves)
        _, (_, stats) = run(_variables()["params"], stats, half, moment)
    _assert_close(state.batch_stats, stats)


def test_each_micro_batch_takes_every_nth_row() -> None:
    split = split_batch({"example_id": jnp.arange(6)}, 3, None)["example_id"]
    assert split.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_parts_that_are_not_equal_are_refused() -> None:
    with pytest.raises(UserError, match=r"optimizer\.micro_batches: 5 equal parts .*batch_size=48"):
        Config.from_dict({"optimizer": {"micro_batches": 5}})


# --- Rematerialisation --------------------------------------------------------------------------


def _backbone_loss(name: str, remat: bool) -> tuple[Any, Any]:
    """A loss of (parameters, frames, keys), and the shapes of the variables."""
    module = backbones.get(name).module(remat=remat)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))

    def loss(variables: Any, frames: Any, keys: Any) -> Any:
        features, updated = module.apply(
            variables, frames, train=True, keys=keys, mutable=["batch_stats"]
        )
        return jnp.sum(features**2), updated

    return loss, shapes


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("mobilenet_v2", "efficientnet_b0")),
    ],
)
def test_recomputing_blocks_keeps_the_names_and_less_for_the_backward_pass(name: str) -> None:
    frames, keys = jnp.zeros((2, 32, 32, 3)), jax.random.split(jax.random.key(0), 2)
    sizes, names = [], []
    for remat in (False, True):
        loss, shapes = _backbone_loss(name, remat)
        kept = jax.eval_shape(
            lambda v, loss=loss: jax.vjp(lambda v: loss(v, frames, keys)[0], v)[1], shapes
        )
        weights = sum(x.size for x in jax.tree.leaves(shapes))
        sizes.append(sum(x.size for x in jax.tree.leaves(kept)) - weights)
        names.append(jax.tree.map(lambda x: x.shape, shapes))
    assert names[0] == names[1]
    assert 0 < sizes[1] < sizes[0] / 2


def test_recomputing_blocks_changes_no_number() -> None:
    rng = np.random.default_rng(0)
    frames = jnp.asarray(rng.normal(size=(2, 32, 32, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    variables = backbones.get("resnet8_tiny").module().init(jax.random.key(1), frames)
    found, expected = (
        jax.jit(jax.grad(_backbone_loss("resnet8_tiny", remat)[0], has_aux=True, allow_int=True))(
            variables, frames, keys
        )
        for remat in (True, False)
    )
    _assert_close(found, expected)
