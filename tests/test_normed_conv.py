"""A convolution with BatchNorm against the two layers, and which form each platform gets."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ar_net_jax.backbones.known_norm import conv_batch_norm
from ar_net_jax.backbones.layers import batch_norm, conv
from ar_net_jax.costs import count_macs
from ar_net_jax.ops.depthwise import Padding, depthwise_conv
from ar_net_jax.ops.normed_conv import Norm, folded, normed_conv, plain

EPSILON = 1e-3


def _drawn(shape: tuple[int, ...], features: int, size: int, seed: int) -> tuple[Any, Any, Norm]:
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(size, size, shape[-1], features))
    mean, bias = rng.normal(size=(2, features))
    variance, scale = rng.uniform(0.5, 2.0, (2, features))
    return rng.normal(size=shape), kernel, Norm(mean, variance, scale, bias)


@settings(max_examples=40)
@given(
    size=st.sampled_from([1, 3, 5, 7]),
    stride=st.sampled_from([1, 2]),
    sides=st.tuples(st.integers(7, 16), st.integers(7, 16)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    channels=st.sampled_from([1, 3, 4, 8]),
    seed=st.integers(0, 99),
)
def test_folded_is_the_same_layer(
    size: int,
    stride: int,
    sides: tuple[int, int],
    pads: tuple[int, int, int, int],
    channels: int,
    seed: int,
) -> None:
    """In float64: any size, stride and padding, squares of pixels included."""
    padding: Padding = (pads[:2], pads[2:])
    with jax.enable_x64(True):
        x, kernel, norm = _drawn((2, *sides, channels), 6, size, seed)
        x, kernel = jnp.asarray(x), jnp.asarray(kernel)
        y = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        expected = (y - norm.mean) / np.sqrt(norm.variance + EPSILON) * norm.scale + norm.bias
        for form in (plain, folded):
            found = form(x, kernel, norm, epsilon=EPSILON, stride=stride, padding=padding)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


class _Two(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = conv(8, 7, stride=2, dtype=jnp.float32, name="conv")(x)
        return batch_norm(train=False, dtype=jnp.float32, name="norm")(y)


class _One(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        names = "conv", "norm"
        return conv_batch_norm(x, 8, 7, stride=2, train=False, dtype=jnp.float32, names=names)


def test_one_layer_has_the_variables_results_and_gradients_of_two() -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32))
    one, two = (module.init(jax.random.key(0), x) for module in (_One(), _Two()))
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(np.testing.assert_array_equal, one, two)
    stats = one["batch_stats"]["norm"]
    stats = {"mean": stats["mean"] + 0.3, "var": stats["var"] * 1.7}
    one = {**one, "batch_stats": {"norm": stats}}

    def loss(params: Any, x: jax.Array, module: nn.Module) -> tuple[jax.Array, jax.Array]:
        y = module.apply({**one, "params": params}, x)
        return jnp.sum(jnp.sin(y)), y

    of = jax.value_and_grad(loss, (0, 1), has_aux=True)
    found, expected = (of(one["params"], x, module) for module in (_One(), _Two()))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected
    )


def _text(function: Any, *args: Any, platform: str) -> str:
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()


def test_a_gpu_convolves_squares_of_pixels_and_adds_a_bias() -> None:
    x, kernel, norm = _drawn((2, 16, 16, 3), 8, 7, 0)
    args = jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.float32), norm

    def run(x: jax.Array, kernel: jax.Array, norm: Norm) -> jax.Array:
        return normed_conv(x, kernel, norm, EPSILON, 2, ((3, 3), (3, 3)))

    on_gpu, on_tpu = (_text(run, *args, platform=name) for name in ("cuda", "tpu"))
    assert "tensor<4x4x16x8xbf16>" in on_gpu and "tensor<7x7x3x8xbf16>" not in _of_convolution(
        on_gpu
    )
    assert "tensor<7x7x3x8xbf16>" in _of_convolution(on_tpu)
    # cuDNN takes a bias of the map's own type; elsewhere BatchNorm is computed in float32.
    assert "f32" not in _after_convolution(on_gpu) and "f32" in _after_convolution(on_tpu)
    assert count_macs(run, *args) == 2 * 8 * 8 * 7 * 7 * 3 * 8, "whatever a GPU makes of it"


def _of_convolution(text: str) -> str:
    return next(line for line in text.splitlines() if "stablehlo.convolution" in line)


def _after_convolution(text: str) -> str:
    """What is done to the convolution's result, by the lines of its own function."""
    lines = iter(text.splitlines())
    for line in lines:
        if "stablehlo.convolution" in line:
            break
    found = []
    for line in lines:
        if "return" in line:
            break
        if "tensor<2x8x8x8x" in line:
            found.append(line)
    return "\n".join(found)


@pytest.mark.parametrize(("size", "products"), [(3, True), (5, False)])
def test_a_gpu_sums_shifted_products_where_no_gradient_is_wanted(size: int, products: bool) -> None:
    side = (size - 1) // 2
    padding: Padding = ((side, side), (side, side))
    args = jnp.ones((1, 8, 8, 4)), jnp.ones((size, size, 1, 4))

    def run(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return depthwise_conv(x, kernel, 1, padding)

    assert ("stablehlo.convolution" not in _text(run, *args, platform="cuda")) == products
    both = jax.value_and_grad(lambda x, kernel: jnp.sum(run(x, kernel)), (0, 1))
    assert "stablehlo.convolution" in _text(both, *args, platform="cuda")
    assert "stablehlo.convolution" not in _text(both, *args, platform="cpu")
