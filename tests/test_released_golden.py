"""Released AR-Net checkpoints compute what the authors' code computed from them."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import recipe

from ar_net_jax.experiment import Config
from ar_net_jax.inference.model import Model
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig
from ar_net_jax.modules.frame_runner import EVALUATION
from ar_net_jax.ops.decide import Argmax, Forced
from ar_net_jax.weights.released.convert import import_released

# EfficientNet's three networks take a minute to compile; the others show the same code.
NAMES = ("arnet_resnet", pytest.param("arnet_efficientnet", marks=pytest.mark.slow))


@functools.cache
def _frames() -> np.ndarray:
    return recipe.frames(int(recipe.load("arnet_resnet")["seed"]), batch=2, steps=16)


@functools.cache
def _imported(name: str) -> tuple[ARNetConfig, Any]:
    state = recipe.state_dict(recipe.load(name))
    config, variables = import_released(state, method="ar_net")
    return config.model, variables


def _run(
    name: str,
    dtype: str,
    videos: int,
    forced: np.ndarray | None = None,
    round_kernels: bool = False,
) -> dict[str, np.ndarray]:
    """The outputs that are golden, of a model imported from a released state dictionary."""
    config, variables = _imported(name)
    if round_kernels:
        variables = jax.tree.map(_round_kernel, variables)
    model = ARNet(dataclasses.replace(config, dtype=dtype)).module()
    mode = EVALUATION.replace(decide=Argmax() if forced is None else Forced(forced))

    @jax.jit
    def run(variables: Any, frames: jax.Array) -> dict[str, jax.Array]:
        def every(module: Any) -> tuple:
            (features, _), steps = module.decide(frames, mode)
            all_of_them = jnp.ones((*frames.shape[:2], len(config.resolutions)), bool)
            rows, _ = module.frame_rows(frames, mode, features, steps, all_of_them)
            each = jnp.stack(rows, axis=2)
            return module(frames, mode), features, each

        prediction, features, each = model.apply(variables, method=every)
        return {
            "logits": prediction.logits,
            "actions": prediction.decisions.actions,
            "base_outs": jnp.swapaxes(each, 1, 2),
            "policy_feat": features,
            "policy_logits": prediction.decisions.logits,
        }

    return jax.tree.map(np.asarray, run(variables, _frames()[:videos]))


def _round_kernel(array: np.ndarray) -> np.ndarray:
    return np.asarray(jnp.bfloat16(array), np.float32) if array.ndim == 4 else array


def _apart(found: np.ndarray, golden: np.ndarray) -> float:
    """The largest difference, relative to the largest magnitude."""
    return float(np.max(np.abs(found - golden)) / np.max(np.abs(golden)))


def _check_outputs(name: str, videos: int) -> None:
    golden, found = recipe.load(name), _run(name, "float32", videos)
    np.testing.assert_array_equal(found["actions"], golden["actions"][:videos])
    for output in ("logits", "policy_feat", "policy_logits"):
        assert _apart(found[output], golden[output][:videos]) < 1e-4, output
    for resolution in range(4):
        stored = golden["base_outs"][:videos, resolution]
        assert _apart(found["base_outs"][:, resolution], stored) < 1e-4, resolution


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_the_authors_code(name: str) -> None:
    _check_outputs(name, videos=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_outputs_of_both_videos(name: str) -> None:
    _check_outputs(name, videos=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_routed_form_decides_and_computes_what_the_masked_one_does(name: str) -> None:
    golden = recipe.load(name)
    model = Model(Config(model=_imported(name)[0]), _imported(name)[1])
    routed, masked = (model(_frames(), routing=form) for form in ("routed", "masked"))
    np.testing.assert_array_equal(routed.actions, golden["actions"])
    np.testing.assert_array_equal(masked.actions, golden["actions"])
    apart = _apart(np.asarray(routed.logits), np.asarray(masked.logits))
    print(f"{name}: routed and masked logits {apart:.1e} apart")
    assert apart < 1e-5


def test_the_config_is_that_of_the_authors_code() -> None:
    model, _ = _imported("arnet_efficientnet")
    assert model.backbones == ("efficientnet_b3", "efficientnet_b1", "efficientnet_b0")
    assert (model.resolutions, model.skips) == ((224, 168, 112, 84), (1, 2, 4))
    assert (model.num_classes, model.padding, model.norm) == (200, "static", "tensorflow")
    assert (model.resize, model.policy.backbone) == ("nearest", "mobilenet_v2")
    assert (model.policy.cell_state, model.policy.lowest_head) == ("advancing", "hidden")
    assert model.policy.hidden_size == 512


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_backbones_stay_near(name: str, record_property: Any) -> None:
    """Within 3% for ResNets, and for all as near as the weights themselves are in bfloat16.

    Depthwise networks of random weights amplify rounding, so there is no fixed bound for
    EfficientNets. The policy computes in float32: every decision stays.
    """
    golden = recipe.load(name)
    found = _run(name, "bfloat16", videos=2, forced=golden["actions"])
    np.testing.assert_array_equal(found["actions"], golden["actions"])
    apart = _apart(found["logits"], golden["logits"])
    rounded = _run(name, "float32", videos=2, forced=golden["actions"], round_kernels=True)
    bound = _apart(rounded["logits"], golden["logits"])
    record_property("logits_apart", apart)
    print(f"{name}: logits {apart:.2%} apart ({bound:.2%} by rounded kernels alone)")
    decided = found["policy_logits"].argmax(-1)
    np.testing.assert_array_equal(decided, golden["policy_logits"].argmax(-1))
    assert apart < 4 * bound
    assert apart < 0.03 or name == "arnet_efficientnet"
