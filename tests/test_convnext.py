"""ConvNeXt: a backbone without BatchNorm, alone and in AR-Net's training."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax import backbones
from ar_net_jax.backbones import convnext
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.runtime.mesh import make_mesh
from ar_net_jax.training.program import build_program
from ar_net_jax.training.state import TrainState

NAME, SIZE = "convnext_slim", 24
# On CPU XLA compiles this generator several times faster than the default one.
QUICK_KEY = jax.random.key(0, impl="rbg")


def test_it_has_parameters_only_and_says_which_frames_are_too_small() -> None:
    init = backbones.get(NAME).module().init
    small, smaller = (jax.ShapeDtypeStruct((2, 16, side, 3), jnp.float32) for side in (16, 15))
    assert set(jax.eval_shape(init, jax.random.key(0), small)) == {"params"}
    with pytest.raises(UserError, match=r"at least 16 pixels, got 16 x 15; choose"):
        jax.eval_shape(init, jax.random.key(0), smaller)


def test_training_differs_by_stochastic_depth_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def note(y: jax.Array, rate: float, keys: jax.Array | None, salt: int) -> jax.Array:
        drawn.append((round(rate, 6), salt, keys is not None))
        return y

    monkeypatch.setattr(convnext, "drop_path", note)
    module = backbones.get("convnext_tiny").module()
    frames = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    keys = jax.eval_shape(jax.random.split, jax.random.key(0))
    for train in (False, True):
        drawn.clear()
        jax.eval_shape(functools.partial(module.init, train=train), QUICK_KEY, frames, keys=keys)
        rates, salts, given = zip(*drawn, strict=True)
        # The paper's Tiny: evenly from 0 to .1 over its 18 blocks.
        np.testing.assert_allclose(rates, np.linspace(0, 0.1, 18), atol=1e-6)
        assert len(set(salts)) == 18
        assert set(given) == {train}


def test_a_row_loses_its_branch_by_its_own_key() -> None:
    block = convnext.ConvNeXtBlock(drop_rate=0.5, index=0, dtype=jnp.float32)
    frames = jax.random.normal(jax.random.key(1), (16, 3, 3, 4))
    variables = jax.jit(functools.partial(block.init, keys=None))(QUICK_KEY, frames)
    variables["params"]["gamma"] = jnp.ones(4)
    keys = jax.random.split(jax.random.key(2), 16)
    branch = jax.jit(lambda keys: block.apply(variables, frames, keys=keys) - frames)
    whole, dropped = (np.asarray(branch(given)) for given in (None, keys))
    kept = np.abs(dropped).max((1, 2, 3)) > 0
    assert 0 < kept.sum() < 16
    np.testing.assert_allclose(dropped[kept], 2 * whole[kept], atol=1e-5)


@pytest.mark.parametrize(
    "form", ["separate", "routed", pytest.param("micro_batches", marks=pytest.mark.slow)]
)
def test_ar_net_trains_without_running_statistics(form: str) -> None:
    """Traced, not run: what is missing would be missed at once."""
    policy = {"backbone": NAME, "resolution": 16, "hidden_size": 8}
    model = {"num_classes": 3, "resolutions": (SIZE, 16), "backbones": (NAME,), "skips": (2,)}
    changes: dict[str, Any] = {"objective": "separate" if form == "separate" else "joint"}
    if form == "routed":
        changes |= {"routing": "routed", "freeze_policy": "all", "decisions": "argmax"}
    losses = {"separate" if form == "separate" else "accuracy": {"weight": 1.0}}
    stages = {"only": {"epochs": 1, "learning_rate": 0.1, "losses": losses, **changes}}
    config = Config.from_dict(
        {
            "method": "ar_net",
            "model": {**model, "policy": policy},
            "stages": stages,
            "stage_order": ("only",),
            "optimizer": {"micro_batches": 2 if form == "micro_batches" else 1},
            "data": {"batch_size": 2},
        }
    )
    method, stage = config.build_method(), config.stages["only"]
    variables = jax.eval_shape(lambda key: method.initial_variables(key, stage), jax.random.key(0))
    assert set(variables) == {"params"}
    program = build_program(config, 0, variables["params"], make_mesh())
    batch = {
        "frames": jax.ShapeDtypeStruct((2, 2, SIZE, SIZE, 3), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((2, 1), jnp.int32),
        "example_id": jax.ShapeDtypeStruct((2,), jnp.int32),
        "epoch": jax.ShapeDtypeStruct((2,), jnp.int32),
        "mask": jax.ShapeDtypeStruct((2,), bool),
    }
    state = jax.eval_shape(lambda v: TrainState.create(v, program.optimizer), variables)
    after, metrics = jax.eval_shape(program.step, state, batch)
    assert jax.tree.structure(after.params) == jax.tree.structure(variables["params"])
    assert not jax.tree.leaves(after.batch_stats)
    assert metrics["loss"].shape == ()
