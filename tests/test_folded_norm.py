"""BatchNorm folded into its neighbours is the plain one: results, gradients and statistics."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.backbones.folded_norm import conv_norm, pooled_stem
from ar_net_jax.ops import normed_product as ops

Array = jax.Array


class _Plain(nn.Module):
    """Flax's own layers in the type of what enters, under the names of the folded ones."""

    kernel: int
    stride: int
    pool: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        side = self.kernel // 2
        x = nn.Conv(
            6,
            (self.kernel, self.kernel),
            (self.stride, self.stride),
            padding=((side, side), (side, side)),
            use_bias=False,
            param_dtype=x.dtype,
            name="conv1",
        )(x)
        x = nn.BatchNorm(
            use_running_average=False,
            momentum=0.9,
            param_dtype=x.dtype,
            use_fast_variance=False,
            name="bn1",
        )(x)
        if self.pool:
            x = nn.max_pool(nn.relu(x), (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        return x


class _Folded(nn.Module):
    run: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return self.run(x)


def _pointwise(stride: int) -> Callable[[Array], Array]:
    names = ("conv1", "bn1")
    return lambda x: conv_norm(x, 6, 1, stride=stride, train=True, dtype=jnp.float32, names=names)


def _stem(x: Array) -> Array:
    return pooled_stem(x, 6, train=True, dtype=jnp.float32)


def _results(network: nn.Module, variables: Any, x: Array, weights: Array) -> Any:
    def loss(params: Any, x: Array) -> tuple[Array, Any]:
        y, updated = network.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(jnp.tanh(y) * weights), (y, updated)

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(variables["params"], x)


@pytest.mark.parametrize(
    "plain, folded",
    [
        (_Plain(1, 1, False), _Folded(_pointwise(1))),
        (_Plain(1, 2, False), _Folded(_pointwise(2))),
        (_Plain(7, 2, True), _Folded(_stem)),
    ],
)
def test_folded_and_plain_layers_agree(plain: nn.Module, folded: nn.Module) -> None:
    """The plain ones in float64, some scales negative."""
    rng = np.random.default_rng(0)
    x = rng.normal(1, 1, (3, 18, 18, 4))
    variables = jax.tree.map(
        np.asarray, folded.init(jax.random.key(0), jnp.asarray(x, jnp.float32))
    )
    variables["params"]["bn1"]["scale"] = rng.normal(size=6).astype(np.float32)
    variables["params"]["bn1"]["bias"] = rng.normal(size=6).astype(np.float32)
    shape = jax.eval_shape(lambda: folded.apply(variables, x, mutable=["batch_stats"]))[0].shape
    weights = rng.normal(size=shape)
    found = _results(
        folded, variables, jnp.asarray(x, jnp.float32), jnp.asarray(weights, jnp.float32)
    )
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (variables, x, weights))
        expected = _results(plain, *exact)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * max(np.abs(theirs).max(), 1))


def test_moments_of_a_product_are_those_of_the_pixels_that_count() -> None:
    rng = np.random.default_rng(1)
    x, kernel = rng.normal(2, 1, (5, 3, 4, 6)), rng.normal(size=(6, 9))
    mask = np.array([True, False, True, True, False])
    found = ops.product_moments(
        jnp.asarray(x, jnp.float32),
        jnp.asarray(kernel, jnp.float32),
        jnp.asarray(mask).reshape(-1, 1, 1, 1),
    )
    y = (x @ kernel)[mask]
    np.testing.assert_allclose(found[0], y.mean((0, 1, 2)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[1], y.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("mask", [None, [True, False, True]])
def test_both_forms_of_a_normed_product_agree(mask: list[bool] | None) -> None:
    """In float64, which no order of sums disturbs."""
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        x, grad = (jnp.asarray(rng.normal(1, 1, (3, 4, 5, size))) for size in (4, 6))
        kernel, scale, bias = (rng.normal(size=s) for s in ((1, 1, 4, 6), 6, 6))
        rows = None if mask is None else jnp.asarray(mask).reshape(-1, 1, 1, 1)
        inputs = ops.Inputs(x, jnp.asarray(kernel), jnp.asarray(scale), jnp.asarray(bias), rows)
        plain = ops.product_first(inputs, 1e-5)
        folded = ops.moments_first(inputs, 1e-5)
        for ours, theirs in zip(folded[:3], plain[:3], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
        expected = ops.gradients_of_product(inputs, *plain[1:], grad, 1e-5)
        found = ops.gradients_through_moments(inputs, *folded[1:], grad, 1e-5)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8)
