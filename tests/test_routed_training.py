"""The routed training step: only chosen frames are computed."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig, ARNetStage
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.heads import frame_classifier
from ar_net_jax.modules.policy import PolicyConfig
from ar_net_jax.modules.routed_training import predict_routed, run_chosen
from ar_net_jax.ops.decide import Forced
from ar_net_jax.ops.resize import prepare_frames

CONFIG = ARNetConfig(
    num_classes=3,
    resolutions=(24, 20, 16),
    backbones=("resnet8_tiny", "resnet8_tiny"),
    skips=(1,),
    policy=PolicyConfig("resnet8_tiny", 16, hidden_size=8),
    dropout=0.0,
)
MODEL = ARNet(CONFIG)
LOSSES = MODEL.usual_losses("joint")
VIDEOS, FRAMES = 3, 4


@functools.cache
def _variables() -> Any:
    return jax.jit(MODEL.initial_variables)(jax.random.key(0))


def _frames() -> jax.Array:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(0, 256, (VIDEOS, FRAMES, 24, 24, 3), np.uint8))


def _mode(actions: jax.Array) -> Mode:
    """Training under imposed actions and a frozen policy."""
    keys = jax.random.split(jax.random.key(1), VIDEOS)
    return Mode(train=True, frozen=("policy",), keys=keys, decide=Forced(actions))


@functools.partial(jax.jit, static_argnums=2)
def _routed(params: Any, actions: jax.Array, chunk: int) -> tuple[jax.Array, Any, Any]:
    """Logits, gradient of a function of them, and statistics."""

    def loss(params: Any) -> tuple[jax.Array, tuple]:
        variables = {**_variables(), "params": params}
        prediction, stats = predict_routed(
            MODEL.module(), variables, _frames(), _mode(actions), chunk, None
        )
        return jnp.sum(jnp.sin(prediction.logits)), (prediction.logits, stats)

    grads, (logits, stats) = jax.grad(loss, has_aux=True)(params)
    return logits, grads, stats


@jax.jit
def _masked(params: Any, actions: jax.Array) -> tuple[jax.Array, Any, Any]:
    def loss(params: Any) -> tuple[jax.Array, tuple]:
        prediction, updated = MODEL.module().apply(
            {**_variables(), "params": params}, _frames(), _mode(actions), mutable=["batch_stats"]
        )
        return jnp.sum(jnp.sin(prediction.logits)), (prediction.logits, updated["batch_stats"])

    grads, (logits, stats) = jax.grad(loss, has_aux=True)(params)
    return logits, grads, stats


def _close(found: Any, expected: Any) -> None:
    def compare(path: tuple, a: Any, b: Any) -> None:
        limit = 1e-5 * max(float(np.abs(b).max()), 1e-2)
        np.testing.assert_allclose(a, b, atol=limit, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(compare, found, expected)


def test_all_frames_for_one_network_are_the_masked_form() -> None:
    """Every frame chosen and in one chunk: BatchNorm sees the same frames in both forms."""
    actions = jnp.full((VIDEOS, FRAMES), 1)
    params = _variables()["params"]
    found, expected = _routed(params, actions, 64), _masked(params, actions)
    _close(found[0], expected[0])
    _close(found[1]["backbone_1"], expected[1]["backbone_1"])
    _close(found[2]["backbone_1"], expected[2]["backbone_1"])
    # The other network was chosen for nothing: no gradient, and its statistics stay.
    assert not any(np.any(x) for x in jax.tree.leaves(found[1]["backbone_0"]))
    jax.tree.map(
        np.testing.assert_array_equal,
        found[2]["backbone_0"],
        _variables()["batch_stats"]["backbone_0"],
    )


MIXED = np.array([[0, 1, 3, 0], [2, 2, 0, 3], [0, 1, 0, 1]])


def test_a_network_trains_on_its_chosen_frames_as_on_a_batch_of_them() -> None:
    logits, grads, stats = _routed(_variables()["params"], jnp.asarray(MIXED), 64)
    chosen = MIXED.reshape(-1) == 0
    own = {kind: tree["backbone_0"] for kind, tree in _variables().items()}
    x = prepare_frames(_frames().reshape(-1, 24, 24, 3), 24)[chosen]
    _, expected = jax.jit(
        lambda v, x: frame_classifier(CONFIG, CONFIG.backbones[0]).apply(
            v, x, train=True, mutable=["batch_stats"]
        )
    )(own, x)
    _close(stats["backbone_0"], expected["batch_stats"])
    assert np.isfinite(logits).all()
    assert any(np.any(x) for x in jax.tree.leaves(grads["backbone_0"]))
    assert not any(np.any(x) for x in jax.tree.leaves(grads["policy"]["decision"]))


# --- The loop over chunks -----------------------------------------------------------------------


MASKS: list[int] = []  # Frames of each chunk that ran.


def _run_chosen(
    weights: jax.Array, frames: jax.Array, selected: jax.Array
) -> tuple[jax.Array, Any, Any]:
    """In chunks of 4, a network that is a matrix and whose statistics are sums of its frames."""

    def network(
        weights: jax.Array, stats: Any, x: jax.Array, keys: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, Any]:
        jax.debug.callback(lambda m: MASKS.append(int(m.sum())), mask)
        return x @ weights, {"mean": jnp.sum(x * mask[:, None], 0) / jnp.sum(mask)}

    keys = jax.random.split(jax.random.key(0), len(frames))
    return run_chosen(network, 4, weights, {"mean": jnp.zeros(3)}, frames, keys, selected)


_chosen = jax.jit(_run_chosen)
_slope = jax.jit(jax.grad(lambda *args: jnp.sum(_run_chosen(*args)[0] ** 2)))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 7, 11])
def test_chosen_frames_and_no_others_are_computed(count: int) -> None:
    """Whatever their number, in chunks of 4, spread evenly."""
    rng = np.random.default_rng(count)
    selected = np.zeros(11, bool)
    selected[rng.permutation(11)[:count]] = True
    frames = rng.normal(size=(11, 3)).astype(np.float32)
    weights = jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)
    MASKS.clear()
    found, stats, number = _chosen(weights, frames, selected)
    expected = np.where(selected[:, None], frames @ weights, 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(stats["mean"], frames[selected].sum(0), atol=1e-5)
    assert int(number) == count
    jax.effects_barrier()
    # As few chunks as hold them all, none much emptier than another.
    assert len(MASKS) == -(-count // 4)
    assert sum(MASKS) == count
    assert not MASKS or max(MASKS) - min(MASKS) <= 1

    gradient = _slope(weights, frames, selected)
    picked = frames[selected]
    np.testing.assert_allclose(gradient, 2 * picked.T @ (picked @ weights), atol=1e-4)


# --- The config ---------------------------------------------------------------------------------


def test_the_routed_form_wants_a_policy_that_is_fixed() -> None:
    with pytest.raises(UserError, match=r"stages\.s\.routing: 'routed' .*freeze it"):
        Config(stages={"s": ARNetStage(losses=LOSSES, routing="routed")})
    fixed = ARNetStage(losses=LOSSES, routing="routed", freeze_policy="all")
    Config(stages={"s": fixed}, stage_order=("s",))
    values = {"method": "random_policy", "stages": {"s": {"routing": "routed"}}}
    with pytest.raises(UserError, match=r"stages\.s\.routing: unknown field"):
        Config.from_dict(values)
