"""Frame by frame against the call on the whole clip, and which networks a frame calls."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.model import Model
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig
from ar_net_jax.methods.uniform import Uniform, UniformConfig
from ar_net_jax.modules.frame_runner import EVALUATION
from ar_net_jax.modules.policy import PolicyConfig

LENGTH = 24
POLICY = PolicyConfig("resnet8_tiny", resolution=16, hidden_size=8)
PAPER = ARNetConfig(
    num_classes=5,
    resolutions=(32, 24, 16),
    backbones=("resnet8_tiny", "resnet8_tiny"),
    skips=(1, 2, 4),
    policy=POLICY,
)
RELEASED = dataclasses.replace(
    PAPER, policy=dataclasses.replace(POLICY, cell_state="advancing", lowest_head="hidden")
)
WEIGHTED = dataclasses.replace(PAPER, policy=dataclasses.replace(POLICY, frame_weight="learned"))
SKIPPING_ONLY = dataclasses.replace(
    PAPER,
    resolutions=(32,),
    backbones=("resnet8_tiny",),
    policy=dataclasses.replace(POLICY, is_action=False),
)


@functools.cache
def _model(config: ARNetConfig, seed: int) -> Model:
    """A model whose decisions vary from frame to frame."""
    method = ARNet(config)
    variables = jax.jit(method.initial_variables)(jax.random.key(seed))
    policy = variables["params"]["policy"]
    look = functools.partial(method.module().apply, method="policy_features")
    features = jax.jit(look)(variables, _video(seed)[None], EVALUATION)[0]
    # Centred and wide, what enters the LSTM moves its gates, and so the decisions.
    policy["lstm"]["kernel_ih"] *= 30.0
    policy["lstm"]["bias_ih"] = -features.mean((0, 1)) @ policy["lstm"]["kernel_ih"]
    shape = policy["decision"]["kernel"].shape
    policy["decision"]["kernel"] = 3.0 * jax.random.normal(jax.random.key(seed + 10), shape)
    if "weight" in policy:
        policy["weight"]["kernel"] = jax.random.normal(jax.random.key(seed + 20), (8, 1))
    return Model(Config(model=config), jax.tree.map(np.asarray, variables))


def _video(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    brightness = rng.uniform(0.05, 1.0, (LENGTH, 1, 1, 3))
    return (brightness * rng.integers(0, 256, (LENGTH, 32, 32, 3))).astype(np.uint8)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "config",
    [PAPER, pytest.param(RELEASED, marks=pytest.mark.slow), SKIPPING_ONLY, WEIGHTED],
    ids=["paper", "released", "skipping only", "weighted"],
)
def test_frame_by_frame_equals_the_clip(config: ARNetConfig, seed: int) -> None:
    model, video = _model(config, seed), _video(seed)
    clip = model(video[None], routing="masked")
    stream = model.stream()
    for frame in video:
        stream.push(frame)
    np.testing.assert_array_equal(stream.actions, clip.actions[0])
    scale = np.abs(clip.logits).max()
    np.testing.assert_allclose(stream.logits, clip.logits[0], atol=1e-5 * scale)
    np.testing.assert_allclose(stream.gflops, clip.gflops[0], rtol=1e-5)


def test_a_frame_counts_as_much_as_its_weight() -> None:
    model, video = _model(WEIGHTED, 0), _video(0)[None]
    module, variables = model.method.module(), model.variables
    (features, _), steps = module.apply(variables, video, EVALUATION, method="decide")
    kernel = variables["params"]["policy"]["weight"]["kernel"]
    weight = 2 / (1 + np.exp(-(np.asarray(steps.hidden) @ kernel)[..., 0]))
    rows, _ = module.apply(
        variables,
        video,
        EVALUATION,
        features,
        steps,
        steps.one_hot[..., :3] > 0.5,
        method="frame_rows",
    )
    chosen = np.asarray(steps.one_hot[..., :3])
    total = np.einsum("btlc,btl,bt->bc", np.stack(rows, axis=2), chosen, weight)
    expected = total / chosen.sum((1, 2))[:, None]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(model(video).logits, expected, atol=1e-4 * scale)
    assert weight.std() > 0.1


@pytest.mark.parametrize(
    ("config", "on_covered"), [(PAPER, ()), (RELEASED, ("policy",))], ids=["paper", "released"]
)
def test_frames_call_only_what_they_need(config: ARNetConfig, on_covered: tuple) -> None:
    model = _model(config, 0)
    stream, video = model.stream(), _video(0)
    steps = [stream.push(frame) for frame in video]
    names = config.space.names
    covered = [step for step in steps if step.covered]
    assert covered, "the video should hold a skip of several frames"
    assert {step.networks for step in covered} == {on_covered}
    for step in steps:
        if not step.covered:
            backbone = names[step.action : step.action + 1] if step.action < 2 else ()
            assert step.networks == ("policy", *backbone)
    looked = len(steps) if on_covered else len(steps) - len(covered)
    assert stream.calls["policy"] == looked
    assert stream.calls[names[0]] == np.sum(stream.actions == 0)


def test_no_frame_compiles_and_a_reset_starts_over() -> None:
    model, video = _model(PAPER, 0), _video(0)
    stream = model.stream()
    compiled = [f._cache_size() for f in (stream._look, *stream._classify)]
    assert compiled == [1, 1, 1]
    for frame in video:
        stream.push(frame)
    first = stream.actions, stream.logits
    assert [f._cache_size() for f in (stream._look, *stream._classify)] == compiled
    stream.reset()
    assert not stream.logits.any() and not len(stream.actions) and not stream.calls
    for frame in video:
        stream.push(frame)
    np.testing.assert_array_equal(stream.actions, first[0])
    np.testing.assert_array_equal(stream.logits, first[1])


def test_bad_frames_and_models_are_named() -> None:
    with pytest.raises(ValueError, match=r"uint8 \[32, 32, 3\].*\[16, 16, 3\]"):
        _model(PAPER, 0).stream().push(np.zeros((16, 16, 3), np.uint8))
    config = UniformConfig(num_classes=5, resolution=32, backbone="resnet8_tiny")
    variables = Uniform(config).initial_variables(jax.random.key(0))
    with pytest.raises(UserError, match="'uniform' does not take a video frame by frame"):
        Model(Config(method="uniform", model=config), variables).stream()
