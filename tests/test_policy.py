"""The policy's scan against a step-by-step numpy simulation of the released bookkeeping."""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.modules.policy import PolicyConfig, PolicyNetwork, PolicySteps
from ar_net_jax.modules.recurrence import LSTMCell, LSTMState
from ar_net_jax.ops.actions import ActionSpace
from ar_net_jax.ops.decide import Decide, Forced, GumbelSample

SPACE = ActionSpace((32, 16), (1, 2, 4))
VIDEOS, FRAMES, WIDTH, HIDDEN, CLASSES = 6, 9, 32, 8, 3
CONFIG = PolicyConfig("resnet8_tiny", 16, hidden_size=HIDDEN)
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(VIDEOS, FRAMES, WIDTH)).astype(np.float32)
NOISE = RNG.gumbel(size=(VIDEOS, FRAMES, SPACE.num_actions)).astype(np.float32)


@flax.struct.dataclass
class SampleWith(GumbelSample):
    """Samples with this noise, float32 [B, T, A], instead of any that keys would give."""

    noise: np.ndarray | None = None

    def inputs(self, keys: jax.Array | None, length: int, count: int) -> np.ndarray:
        """See `Decide`."""
        return self.noise


def _network(**fields: str) -> PolicyNetwork:
    return PolicyNetwork(dataclasses.replace(CONFIG, **fields), SPACE, CLASSES)


@functools.partial(jax.jit, static_argnames=("network", "options"))
def _run(network: PolicyNetwork, variables: dict, *args: Any, options: tuple = ()) -> PolicySteps:
    """What the policy decides, compiled: features, and the way to decide."""
    return network.apply(variables, *args, method="decide", **dict(options))


def _random_variables(network: PolicyNetwork, seed: int = 0) -> dict:
    """Weights large enough that decisions differ from frame to frame."""

    def run(module: PolicyNetwork) -> None:
        module.lowest_rows(FEATURES, module.decide(FEATURES))

    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), method=run))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32) * 0.5, shapes)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _pytorch_cell(
    x: np.ndarray, h: np.ndarray, c: np.ndarray, params: dict
) -> tuple[np.ndarray, np.ndarray]:
    """torch.nn.LSTMCell for one example: rows of the gates in the order i, f, g, o."""
    weight_ih, weight_hh = params["kernel_ih"].T, params["kernel_hh"].T
    gates = weight_ih @ x + params["bias_ih"] + weight_hh @ h + params["bias_hh"]
    n = len(h)
    i, f, g, o = gates[:n], gates[n : 2 * n], gates[2 * n : 3 * n], gates[3 * n :]
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _simulate(
    params: dict,
    features: np.ndarray,
    *,
    cell_state: str = "frozen",
    noise: np.ndarray | None = None,
    proposals: np.ndarray | None = None,
    use_skips: bool = True,
) -> dict[str, np.ndarray]:
    """One video in float64, as released: the counter, the repeated action, the restored state."""
    params = jax.tree.map(np.float64, params)
    h, c = np.zeros(HIDDEN), np.zeros(HIDDEN)
    counter, action = 0, 0
    record: dict[str, list] = {"action": [], "covered": [], "logits": [], "hidden": []}
    for t, x in enumerate(features):
        fresh_h, fresh_c = _pytorch_cell(x, h, c, params["lstm"])
        logits = fresh_h @ params["decision"]["kernel"] + params["decision"]["bias"]
        covered = counter > 0
        if covered:
            c = fresh_c if cell_state == "advancing" else c
        else:
            h, c = fresh_h, fresh_c
            log_p = logits - np.log(np.exp(logits).sum())
            action = int(np.argmax(log_p + (0 if noise is None else noise[t])))
            if proposals is not None:
                action = int(proposals[t])
            is_skip = action >= len(SPACE.resolutions) and use_skips
            counter = SPACE.skips[action - len(SPACE.resolutions)] if is_skip else 0
        counter = max(counter - 1, 0)
        for name, value in zip(record, (action, covered, logits, fresh_h)):
            record[name].append(value)
    return {name: np.array(values) for name, values in record.items()}


def _check(
    decisions: PolicySteps, params: dict, given: dict | None = None, **options: object
) -> None:
    """Compares with the simulation; `given` holds noise or proposals of all videos."""
    given = given or {}
    expected = [
        _simulate(params, FEATURES[v], **{k: x[v] for k, x in given.items()}, **options)
        for v in range(VIDEOS)
    ]
    actions = np.stack([e["action"] for e in expected])
    one_hot = np.asarray(decisions.one_hot)
    np.testing.assert_array_equal(one_hot, np.eye(SPACE.num_actions)[actions])
    np.testing.assert_array_equal(decisions.covered, [e["covered"] for e in expected])
    np.testing.assert_allclose(decisions.logits, [e["logits"] for e in expected], atol=2e-5)
    np.testing.assert_allclose(decisions.hidden, [e["hidden"] for e in expected], atol=2e-5)


def test_cell_is_pytorchs() -> None:
    rng = np.random.default_rng(1)
    x, h, c = (rng.normal(size=(4, n)).astype(np.float32) for n in (5, HIDDEN, HIDDEN))
    cell = LSTMCell(5, HIDDEN)
    params = cell.init(jax.random.key(0), x, method="project")["params"]
    assert {k: v.shape for k, v in params.items()} == {
        "kernel_ih": (5, 32),
        "kernel_hh": (8, 32),
        "bias_ih": (32,),
        "bias_hh": (32,),
    }
    limit = HIDDEN**-0.5
    flat = np.concatenate([np.ravel(v) for v in params.values()])
    assert -limit <= flat.min() < -0.9 * limit and 0.9 * limit < flat.max() <= limit
    bound = cell.bind({"params": params})
    got = bound.step(LSTMState(h, c), bound.project(x))
    params = jax.tree.map(np.float64, params)
    for row in range(4):
        expected = _pytorch_cell(x[row], h[row], c[row], params)
        np.testing.assert_allclose(got.hidden[row], expected[0], atol=1e-6)
        np.testing.assert_allclose(got.cell[row], expected[1], atol=1e-6)


@pytest.mark.parametrize("cell_state", ["frozen", "advancing"])
def test_own_decisions_follow_the_released_bookkeeping(cell_state: str) -> None:
    network = _network(cell_state=cell_state)
    variables = _random_variables(network)
    decisions = _run(network, variables, FEATURES)
    used = np.asarray(decisions.one_hot).sum((0, 1))
    assert (used > 0).sum() >= 3 and decisions.covered.sum() >= 5, "the case has to be telling"
    _check(decisions, variables["params"], cell_state=cell_state)


@pytest.mark.parametrize("cell_state", ["frozen", "advancing"])
def test_sampled_decisions_follow_the_released_bookkeeping(cell_state: str) -> None:
    network = _network(cell_state=cell_state)
    variables = _random_variables(network, seed=1)
    decide = SampleWith(jnp.float32(2.0), noise=NOISE)
    decisions = _run(network, variables, FEATURES, decide)
    assert (np.asarray(decisions.one_hot).sum((0, 1)) > 0).all()
    _check(decisions, variables["params"], {"noise": NOISE}, cell_state=cell_state)


@pytest.mark.parametrize("use_skips", [True, False])
@pytest.mark.parametrize("cell_state", ["frozen", "advancing"])
def test_imposed_proposals_follow_the_released_bookkeeping(
    cell_state: str, use_skips: bool
) -> None:
    network = _network(cell_state=cell_state)
    variables = _random_variables(network, seed=2)
    proposals = np.random.default_rng(3).integers(SPACE.num_actions, size=(VIDEOS, FRAMES))
    # One video that only skips, one that never does.
    proposals[0], proposals[1] = 4, 0
    decide = Forced(jnp.int32(proposals))
    skips = (("use_skips", use_skips),)
    decisions = _run(network, variables, FEATURES, decide, options=skips)
    options = {"cell_state": cell_state, "use_skips": use_skips}
    _check(decisions, variables["params"], {"proposals": proposals}, **options)
    assert use_skips == bool(decisions.covered.any())


def test_frozen_and_advancing_cells_differ_after_a_longer_skip_only() -> None:
    decided = {}
    for cell_state in ("frozen", "advancing"):
        network = _network(cell_state=cell_state)
        proposals = jnp.tile(jnp.int32([0, 2, 0, 0, 3, 0, 0, 0, 0]), (VIDEOS, 1))
        decided[cell_state] = _run(network, _random_variables(network), FEATURES, Forced(proposals))
    gap = np.abs(decided["frozen"].hidden - decided["advancing"].hidden).max((0, 2))
    assert gap[:6].max() < 1e-6, "skip 1 at 1 covers nothing, skip 2 at 4 covers only 5"
    assert gap[6] > 1e-3


def test_lowest_head_reads_the_fresh_hidden_state_or_the_features() -> None:
    # A skip at 0 restores h on frames 1 to 3; the head must not see that.
    proposals = jnp.full((VIDEOS, FRAMES), 4, jnp.int32)
    for head in ("hidden", "features"):
        network = _network(lowest_head=head)
        variables = _random_variables(network)
        params = jax.tree.map(np.float64, variables["params"])
        decisions = _run(network, variables, FEATURES, Forced(proposals))
        got = network.apply(variables, FEATURES, decisions, method="lowest_rows")
        read = FEATURES
        if head == "hidden":
            simulated = [_simulate(params, x, proposals=proposals[0]) for x in FEATURES]
            read = np.stack([s["hidden"] for s in simulated])
        lowest = params["lowest_head"]
        np.testing.assert_allclose(got, read @ lowest["kernel"] + lowest["bias"], atol=2e-5)


def test_no_gradient_reaches_the_policy_through_argmax_or_imposed_decisions() -> None:
    network = _network()
    variables = _random_variables(network)
    weights = RNG.normal(size=(VIDEOS, FRAMES, SPACE.num_actions)).astype(np.float32)

    def size_of_gradient(*decide: Decide) -> float:
        def loss(params: dict) -> jax.Array:
            decisions = network.apply({"params": params}, FEATURES, *decide, method="decide")
            return jnp.sum(decisions.one_hot * weights)

        gradient = jax.jit(jax.grad(loss))(variables["params"])["decision"]
        return float(sum(jnp.abs(g).sum() for g in jax.tree.leaves(gradient)))

    assert size_of_gradient() == 0.0
    assert size_of_gradient(Forced(jnp.zeros((VIDEOS, FRAMES), jnp.int32))) == 0.0
    assert size_of_gradient(SampleWith(2.0, noise=NOISE)) > 0.0


def test_a_covered_frame_passes_its_gradient_to_the_skip_that_covers_it() -> None:
    """The one-hot of a covered frame is that of the skip, gradient included (as released)."""
    network = _network()
    variables = _random_variables(network)
    # Noise that makes "skip 4" certain on frame 0, and so covers frames 1 to 3.
    noise = np.zeros((1, 4, SPACE.num_actions), np.float32)
    noise[0, 0, 4] = 20.0
    decide = SampleWith(5.0, noise=noise)

    @jax.jit
    @jax.grad
    def slope(params: dict, frame: int) -> jax.Array:
        features = FEATURES[:1, :4]
        decisions = network.apply({"params": params}, features, decide, method="decide")
        return decisions.one_hot[0, frame, 0]

    first, *later = (slope(variables["params"], frame) for frame in range(4))
    assert float(jnp.abs(first["decision"]["bias"]).max()) > 0
    for gradient in later:
        jax.tree.map(np.testing.assert_array_equal, gradient, first)
