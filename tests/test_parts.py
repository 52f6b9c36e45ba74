"""Frames in parts, against all at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.costs.counting import count_macs
from ar_net_jax.inference import step
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.methods.ar_net import ARNet, ARNetConfig
from ar_net_jax.modules.policy import PolicyConfig
from ar_net_jax.ops.parts import run_in_parts
from ar_net_jax.ops.rng import example_keys

METHOD = ARNet(
    ARNetConfig(
        num_classes=7,
        resolutions=(32, 24, 16),
        backbones=("resnet8_slim", "resnet8_tiny"),
        policy=PolicyConfig("resnet8_tiny", resolution=16, hidden_size=8),
    )
)


@pytest.mark.parametrize("size", [1, 3, 4, 12, 13])
def test_parts_are_put_together(size: int) -> None:
    rng = np.random.default_rng(0)
    frames = {
        "a": rng.normal(size=(12, 5)).astype("f"),
        "b": rng.normal(size=(12, 3)).astype("f"),
    }
    seen: list[int] = []

    def network(part: dict[str, jax.Array]) -> jax.Array:
        seen.append(part["a"].shape[0])
        return jnp.tanh(part["a"][:, :3] @ jnp.eye(3)) * part["b"]

    found = run_in_parts(network, frames, size)
    np.testing.assert_allclose(found, np.tanh(frames["a"][:, :3]) * frames["b"], rtol=1e-6)
    assert max(seen) <= size


def test_no_frames_are_computed_twice() -> None:
    weights = jnp.ones((5, 2))

    def in_parts(frames: jax.Array) -> jax.Array:
        return run_in_parts(lambda part: part @ weights, frames, 3)

    assert count_macs(in_parts, jnp.ones((11, 5))) == 11 * 5 * 2


def test_the_masked_form_of_a_tpu_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled here for the CPU: 15 frames in parts of 4, with one of 3 at the end."""
    sizes = {name: 4 for name, network in METHOD.networks().items() if network.backbone}
    monkeypatch.setattr(step, "plan_parts", lambda *_, **__: sizes)
    frames = np.random.default_rng(1).integers(0, 256, (3, 5, 32, 32, 3), np.uint8)
    order = jnp.arange(3)
    request = Request(jnp.asarray(frames), example_keys(0, order, order))
    variables = METHOD.initial_variables(jax.random.key(0))
    parts = make_inference(METHOD, routing="masked", platform="tpu")
    loops = parts.lower(variables, request, jnp.float32(0)).as_text().count("stablehlo.while")
    found = parts(variables, request, jnp.float32(0))
    monkeypatch.undo()
    whole = make_inference(METHOD, routing="masked", platform="cpu")
    assert loops > whole.lower(variables, request, jnp.float32(0)).as_text().count(
        "stablehlo.while"
    )
    expected = whole(variables, request, jnp.float32(0))
    for field in dataclasses.fields(expected):
        if field.name != "gflops_convention":
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
                getattr(found, field.name),
                getattr(expected, field.name),
            )
