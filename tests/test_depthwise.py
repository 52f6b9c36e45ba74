"""The two forms of the depthwise convolution are one function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.backbones.layers import KAIMING_FAN_OUT
from ar_net_jax.ops import depthwise

CASES = [
    (3, 1, ((1, 1), (1, 1))),
    (3, 2, ((1, 1), (1, 1))),
    (3, 2, ((0, 1), (0, 1))),
    (5, 1, ((2, 2), (2, 2))),
    (5, 2, ((1, 2), (2, 2))),
    (5, 2, ((1, 2), (0, 0))),
]


def _inputs(kernel_size: int, size: tuple[int, int], dtype=jnp.float32):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, *size, 5)), dtype)
    kernel = jnp.asarray(rng.standard_normal((kernel_size, kernel_size, 1, 5)), dtype)
    return x, kernel


def _by_definition(x, kernel, stride, padding) -> np.ndarray:
    """The sum itself, one output pixel at a time."""
    x = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)))
    kernel = np.asarray(kernel, np.float64)[:, :, 0]
    k = kernel.shape[0]
    rows = [
        [
            (x[:, i : i + k, j : j + k] * kernel).sum((1, 2))
            for j in range(0, x.shape[2] - k + 1, stride)
        ]
        for i in range(0, x.shape[1] - k + 1, stride)
    ]
    return np.asarray(rows).transpose(2, 0, 1, 3)


@pytest.mark.parametrize(("kernel_size", "stride", "padding"), CASES)
@pytest.mark.parametrize("size", [(8, 11), (7, 6)])
def test_both_forms_equal_the_definition(kernel_size, stride, padding, size):
    x, kernel = _inputs(kernel_size, size)
    expected = _by_definition(x, kernel, stride, padding)
    for form in (depthwise.shifted_products, depthwise.grouped_conv, depthwise.depthwise_conv):
        got = jax.jit(form, static_argnums=(2, 3))(x, kernel, stride, padding)
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [CASES[0], CASES[2], CASES[4]])
def test_gradients_of_both_forms_agree(kernel_size, stride, padding):
    x, kernel = _inputs(kernel_size, (8, 7))

    def gradients(form):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(form(x, kernel, stride, padding)))

        return jax.jit(jax.grad(loss, (0, 1)))(x, kernel)

    expected = gradients(depthwise.grouped_conv)
    for form in (depthwise.shifted_products, depthwise.depthwise_conv):
        for got, want in zip(gradients(form), expected, strict=True):
            # Values near 10, sums of up to 25 float32 terms in another order.
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)


def test_bfloat16_accumulates_in_float32():
    x, kernel = _inputs(5, (9, 9), jnp.bfloat16)
    padding = ((2, 2), (2, 2))
    got = depthwise.shifted_products(x, kernel, 1, padding)
    assert got.dtype == jnp.bfloat16
    exact = jnp.asarray(_by_definition(x, kernel, 1, padding), jnp.bfloat16)
    # Rounded once at the end, so at most a single bfloat16 step (2^-8) from the rounded exact sum.
    np.testing.assert_allclose(
        np.asarray(got, np.float32), np.asarray(exact, np.float32), rtol=2**-7, atol=1e-4
    )


def test_the_platform_chooses_the_form():
    x, kernel = _inputs(3, (8, 8))
    convolve = jax.jit(depthwise.depthwise_conv, static_argnums=(2, 3))
    lowered = convolve.trace(x, kernel, 1, ((1, 1), (1, 1)))
    assert "stablehlo.convolution" not in lowered.lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" in lowered.lower(lowering_platforms=("tpu",)).as_text()


def test_module_has_the_layout_of_a_flax_convolution():
    layer = depthwise.DepthwiseConv(3, 2, ((1, 1), (1, 1)), KAIMING_FAN_OUT, jnp.bfloat16)
    out, variables = layer.init_with_output(jax.random.key(0), jnp.ones((1, 8, 8, 6)))
    assert out.shape == (1, 4, 4, 6)
    assert out.dtype == jnp.bfloat16
    assert variables["params"]["kernel"].shape == (3, 3, 1, 6)
    assert variables["params"]["kernel"].dtype == jnp.float32
