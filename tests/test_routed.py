"""The routed form against the masked one, by any pattern of actions; and that it skips work."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.chunks import plan_chunks
from ar_net_jax.inference.model import Model
from ar_net_jax.methods import Method
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig
from ar_net_jax.methods.lstm import LSTM, LSTMConfig
from ar_net_jax.methods.multi_scale import MultiScale, MultiScaleConfig
from ar_net_jax.methods.random_policy import RandomPolicy, RandomPolicyConfig
from ar_net_jax.methods.uniform import Uniform, UniformConfig
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.modules.policy import PolicyConfig
from ar_net_jax.ops.decide import Forced
from ar_net_jax.ops.routing import Chunks, run_selected

BATCH, LENGTH, CLASSES = 3, 5, 7
POLICY = PolicyConfig("resnet8_tiny", resolution=16, hidden_size=8)
SHARED = {
    "num_classes": CLASSES,
    "resolutions": (32, 24, 16),
    "backbones": ("resnet8_slim", "resnet8_tiny"),
    "policy": POLICY,
}
SINGLE = {"num_classes": CLASSES, "backbone": "resnet8_slim", "resolution": 32}
SKIPS = (1, 2, 4)
AR_NET = ARNet(ARNetConfig(**SHARED, skips=SKIPS))
ACTIONS = len(AR_NET.choices)
NETWORKS = ("32px", "24px", "policy")


def _ar_net(**fields: object) -> ARNet:
    return ARNet(dataclasses.replace(AR_NET.config, **fields))


MODELS: dict[str, Method] = {
    "ar_net": AR_NET,
    "released rules": _ar_net(
        policy=dataclasses.replace(POLICY, cell_state="advancing", lowest_head="hidden")
    ),
    "skipping only": _ar_net(
        resolutions=(32,),
        backbones=("resnet8_slim",),
        policy=dataclasses.replace(POLICY, is_action=False),
    ),
    "bfloat16": _ar_net(dtype="bfloat16"),
    "random_policy": RandomPolicy(RandomPolicyConfig(**SHARED, skips=SKIPS)),
    "multi_scale": MultiScale(MultiScaleConfig(**SHARED)),
    "uniform": Uniform(UniformConfig(**SINGLE)),
    "lstm": LSTM(LSTMConfig(**SINGLE, hidden_size=8)),
}


@functools.cache
def _model(name: str) -> Model:
    """A model whose policy has an opinion: its decision head is drawn large."""
    method = MODELS[name]
    config = Config(method=method.name, model=method.config)
    variables = jax.jit(method.initial_variables)(jax.random.key(1))
    params = variables["params"]
    if "policy" in params:
        decision = params["policy"]["decision"]
        decision["kernel"] = 3.0 * jax.random.normal(jax.random.key(2), decision["kernel"].shape)
        # Features of a fresh network are small, and so is what the LSTM makes of them.
        params["policy"]["lstm"]["kernel_ih"] *= 30.0
    return Model(config, jax.tree.map(np.asarray, variables))


def _frames(batch: int = BATCH, length: int = LENGTH, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (batch, length, 32, 32, 3), np.uint8)


@functools.cache
def _imposed(chunks: tuple[Chunks, ...] | None):
    """Compiled AR-Net under imposed actions, in the form that the chunks ask for."""
    model, plan = AR_NET.module(), chunks and dict(zip(NETWORKS, chunks))

    def run(variables, frames, actions):
        return model.apply(variables, frames, Mode(decide=Forced(actions), chunks=plan))

    return jax.jit(run)


FEW = ((4, 2), (4, 2), (4,))


@settings(max_examples=40, deadline=None)
@given(
    actions=st.lists(
        st.lists(st.integers(0, ACTIONS - 1), min_size=LENGTH, max_size=LENGTH),
        min_size=BATCH,
        max_size=BATCH,
    ),
    chunks=st.sampled_from([FEW, ((64, 4), (7, 3), (1,))]),
)
def test_any_pattern_of_actions_gives_what_masking_gives(actions: list, chunks: tuple) -> None:
    variables, imposed = _model("ar_net").variables, np.array(actions)
    masked = _imposed(None)(variables, _frames(), imposed)
    routed = _imposed(chunks)(variables, _frames(), imposed)
    np.testing.assert_array_equal(routed.decisions.actions, masked.decisions.actions)
    scale = np.abs(masked.logits).max()
    np.testing.assert_allclose(routed.logits, masked.logits, atol=1e-5 * max(scale, 1e-30))
    chosen = np.asarray(masked.decisions.one_hot)[..., :2].sum((0, 1))
    for count, name, sizes in zip(chosen, NETWORKS, chunks, strict=False):
        assert count <= routed.executed[name] < count + min(sizes)
    assert _imposed(chunks)._cache_size() == 1, "another mix of actions compiles nothing"


@pytest.mark.parametrize("action", range(ACTIONS))
def test_one_action_for_all_frames(action: int) -> None:
    imposed = np.full((BATCH, LENGTH), action)
    masked = _imposed(None)(_model("ar_net").variables, _frames(), imposed)
    routed = _imposed(FEW)(_model("ar_net").variables, _frames(), imposed)
    np.testing.assert_allclose(
        routed.logits, masked.logits, atol=1e-5 * np.abs(masked.logits).max()
    )
    expected = [16 if action == i else 0 for i in range(2)]
    computed = [int(routed.executed[name]) for name in NETWORKS[:2]]
    assert computed == expected, "frames not chosen are not computed"
    if action > 2:
        assert not routed.logits.any(), "a video that is skipped as a whole has zero logits"


def _some(names: Iterable[str], default: tuple[str, ...]) -> list[Any]:
    """The names, of which those that are no default are for the long run."""
    return [n if n in default else pytest.param(n, marks=pytest.mark.slow) for n in names]


FORMS = ("ar_net", "skipping only", "random_policy", "uniform")


@pytest.mark.parametrize("name", _some(MODELS, default=FORMS))
def test_every_method_routes_as_it_masks(name: str) -> None:
    model = _model(name)
    tolerance = 2e-2 if name == "bfloat16" else 1e-5
    _compare_forms(model, _frames(), tolerance)


def test_one_frame_of_one_video() -> None:
    _compare_forms(_model("ar_net"), _frames(1, 1), 1e-5)


def _compare_forms(model: Model, frames: np.ndarray, tolerance: float) -> None:
    routed = model(frames, seed=3, chunks=(4,))
    masked = model(frames, seed=3, routing="masked")
    np.testing.assert_array_equal(routed.actions, masked.actions)
    np.testing.assert_allclose(routed.gflops, masked.gflops)
    for network, calls in masked.calls.items():
        np.testing.assert_array_equal(routed.calls[network], calls)
    scale = np.abs(masked.logits).max()
    np.testing.assert_allclose(routed.logits, masked.logits, atol=tolerance * scale)


PADDED = ("ar_net", "released rules", "multi_scale", "lstm")


@pytest.mark.parametrize("name", _some(PADDED, default=("ar_net", "lstm")))
def test_padding_is_neither_seen_nor_charged(name: str) -> None:
    model, lengths = _model(name), np.array([5, 2, 3])
    frames = _frames()
    whole = model(frames, num_frames=lengths, chunks=(4,))
    noise = np.where(
        np.arange(LENGTH)[:, None, None, None] < lengths.reshape(3, 1, 1, 1, 1), frames, 255
    )
    np.testing.assert_array_equal(
        model(noise, num_frames=lengths, chunks=(4,)).logits, whole.logits
    )
    for i, length in enumerate(lengths):
        alone = model(frames[i : i + 1, :length], routing="masked")
        np.testing.assert_array_equal(whole.actions[i, :length], alone.actions[0])
        assert (np.asarray(whole.actions[i, length:]) == -1).all()
        np.testing.assert_allclose(whole.gflops[i], alone.gflops[0], rtol=1e-6)
        scale = np.abs(alone.logits).max()
        np.testing.assert_allclose(whole.logits[i], alone.logits[0], atol=2e-5 * scale)


def test_padding_frames_are_not_computed() -> None:
    lengths = np.array([1, 1, 2])
    executed = _model("multi_scale")(_frames(), num_frames=lengths, chunks=(1,)).executed
    computed = [int(executed[name]) for name in NETWORKS]
    assert computed == [4, 4, 4], "both backbones and the policy's extractor"


def test_loop_runs_as_often_as_needed_and_no_more() -> None:
    calls = jax.jit(
        lambda selected: run_selected(
            lambda x: x[:, :1] * 2.0, jnp.arange(22.0).reshape(11, 2), selected, (4, 2)
        )
    )
    for count in range(12):
        selected = np.random.default_rng(count).permutation(11) < count
        found, computed = calls(selected)
        np.testing.assert_array_equal(found[:, 0], np.where(selected, 4.0 * np.arange(11), 0.0))
        # Fours as long as more than two are left, then twos.
        fours = max(0, -(-(count - 2) // 4))
        rest = count - 4 * fours
        assert computed == 4 * fours + 2 * max(0, -(-rest // 2))


def test_penalty_moves_decisions_towards_cheap_actions() -> None:
    model, frames = _model("ar_net"), _frames(8, 5, seed=4)
    costs = [
        float(np.mean(model(frames, cost_penalty=penalty, routing="masked").gflops))
        for penalty in (-1e4, 0.0, 1e4)
    ]
    assert costs[0] > costs[1] > costs[2]
    offsets = np.asarray(AR_NET.penalty_offset(2.0))
    assert offsets.argmin() == 0
    np.testing.assert_allclose(offsets[0], -2.0)
    assert offsets.argmax() == ACTIONS - 1, "the longest skip costs least"
    assert MODELS["uniform"].penalty_offset(2.0) is None, "it decides nothing"


def test_sampling_follows_the_seed() -> None:
    model = _model("ar_net")
    first, again, other = (
        np.asarray(model(_frames(), policy="sample", seed=seed, routing="masked").actions)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_bad_calls_name_what_is_expected() -> None:
    model = _model("ar_net")
    with pytest.raises(ValueError, match=r"uint8 \[B, T, 32, 32, 3\].*\[3, 5, 16, 16, 3\]"):
        model(_frames()[:, :, ::2, ::2])
    with pytest.raises(ValueError, match="float32"):
        model(_frames().astype(np.float32))
    with pytest.raises(ValueError, match="from 1 to 5"):
        model(_frames(), num_frames=np.array([1, 6, 2]))
    with pytest.raises(ValueError, match="routing must be one of routed, masked"):
        model(_frames(), routing="fast")
    with pytest.raises(UserError, match="descending"):
        plan_chunks(AR_NET.networks(), "cpu", (2, 4))
