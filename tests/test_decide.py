"""The ways to decide about a frame: the actions that follow from logits, keys or an order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.modules.policy import PolicyConfig, PolicyNetwork, PolicySteps
from ar_net_jax.ops.actions import ActionSpace
from ar_net_jax.ops.decide import Argmax, Decide, Forced, GumbelSample
from ar_net_jax.ops.rng import example_keys

VIDEOS, FRAMES, ACTIONS = 3, 4, 5
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(VIDEOS, ACTIONS)).astype(np.float32)
KEYS = example_keys(7, jnp.zeros(VIDEOS, jnp.int32), jnp.arange(VIDEOS))
# Of the keys that noise is drawn from: runs that were made before go on with the same decisions.
SALT = 2_000


def _log_p(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def _noise() -> np.ndarray:
    """Of each video from its own key, all frames at once."""
    drawn = [jax.random.gumbel(jax.random.fold_in(key, SALT), (FRAMES, ACTIONS)) for key in KEYS]
    return np.stack(drawn)


def test_argmax_takes_the_most_likely_and_nothing_else() -> None:
    decide = Argmax()
    assert decide.inputs(KEYS, FRAMES, ACTIONS) is None
    found, pull = jax.vjp(lambda logits: decide.choose(logits, None), jnp.asarray(LOGITS))
    np.testing.assert_array_equal(found, np.eye(ACTIONS)[LOGITS.argmax(-1)])
    assert not pull(jnp.ones_like(found))[0].any(), "no gradient"


def test_samples_follow_the_noise_of_each_videos_own_key() -> None:
    decide = GumbelSample(jnp.float32(2.0))
    inputs = decide.inputs(KEYS, FRAMES, ACTIONS)
    np.testing.assert_array_equal(inputs, _noise())
    for frame in range(FRAMES):
        expected = (_log_p(LOGITS) + _noise()[:, frame]).argmax(-1)
        found, pull = jax.vjp(
            lambda logits, noise: decide.choose(logits, noise), LOGITS, inputs[:, frame]
        )
        np.testing.assert_array_equal(found, np.eye(ACTIONS)[expected])
        assert np.abs(pull(jnp.float32(RNG.normal(size=LOGITS.shape)))[0]).max() > 0
    with pytest.raises(ValueError, match="one key per video"):
        decide.inputs(None, FRAMES, ACTIONS)


def test_forced_actions_are_taken_whatever_the_logits() -> None:
    actions = RNG.integers(ACTIONS, size=(VIDEOS, FRAMES))
    decide = Forced(jnp.asarray(actions))
    inputs = decide.inputs(None, FRAMES, ACTIONS)
    np.testing.assert_array_equal(inputs, actions)
    found, pull = jax.vjp(lambda logits: decide.choose(logits, inputs[:, 2]), jnp.asarray(LOGITS))
    np.testing.assert_array_equal(found, np.eye(ACTIONS)[actions[:, 2]])
    assert found.dtype == jnp.float32 and not pull(jnp.ones_like(found))[0].any()


# --- In the policy ------------------------------------------------------------------------------

SPACE = ActionSpace((24, 20, 16), (1, 2))
NETWORK = PolicyNetwork(PolicyConfig("resnet8_tiny", 16, hidden_size=4), SPACE, 3)
FEATURES = RNG.normal(size=(VIDEOS, FRAMES, 32)).astype(np.float32)


def _variables() -> dict:
    """Of the recurrence and the decision head, large enough that decisions differ."""
    shapes = jax.eval_shape(lambda: NETWORK.init(jax.random.key(0), FEATURES, method="decide"))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


@jax.jit
def _decided(decide: Decide) -> PolicySteps:
    return NETWORK.apply(_variables(), FEATURES, decide, keys=KEYS, method="decide")


OFFSET = np.array([-3.0, 0.5, 0.0, 4.0, -1.0], np.float32)


@pytest.mark.parametrize("offset", [None, OFFSET], ids=["plain", "offset"])
@pytest.mark.parametrize("kind", ["argmax", "sample", "forced"])
def test_the_policy_decides_as_told(kind: str, offset: np.ndarray | None) -> None:
    """Its logits, an offset on them, and skips are the same whatever the way to decide."""
    actions = RNG.integers(ACTIONS, size=(VIDEOS, FRAMES))
    decide: Decide = {
        "argmax": Argmax(offset),
        "sample": GumbelSample(1.0, offset),
        "forced": Forced(jnp.asarray(actions), offset),
    }[kind]
    steps = _decided(decide)
    # With a frozen cell, logits on frames that no skip covers follow from what was decided.
    logits = np.asarray(steps.logits)
    best = {
        "argmax": logits.argmax(-1),
        "sample": (_log_p(logits) + _noise()).argmax(-1),
        "forced": actions,
    }[kind]
    found = np.asarray(steps.one_hot).argmax(-1)
    covered = np.asarray(steps.covered)
    np.testing.assert_array_equal(found[~covered], best[~covered])
    for video, frame in np.argwhere(covered):
        assert found[video, frame] == found[video, frame - 1] == 4, "only skip 2 covers frames"
    plain = _decided(Forced(jnp.asarray(found))).logits
    shift = np.zeros(ACTIONS) if offset is None else offset
    np.testing.assert_allclose(logits - plain, np.broadcast_to(shift, logits.shape), atol=1e-5)
