"""The forms that convolutions and their gradients take on CPU agree with XLA's own."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ar_net_jax.ops.conv_cpu import (
    by_convolution,
    by_product,
    conv2d,
    gradients_by_convolutions,
    gradients_by_products,
)
from ar_net_jax.ops.winograd import by_winograd

CASES = [
    # (images, rows, columns, inputs, outputs, kernel, stride, padding)
    (2, 7, 7, 4, 6, 1, 1, ((0, 0), (0, 0))),
    (3, 8, 7, 4, 6, 1, 2, ((0, 0), (0, 0))),
    (2, 9, 9, 4, 6, 1, 2, ((0, 0), (0, 0))),
    (2, 7, 9, 4, 6, 3, 1, ((1, 1), (1, 1))),
    (4, 40, 40, 2, 3, 3, 1, ((1, 1), (1, 1))),
    (3, 8, 8, 4, 6, 3, 2, ((1, 1), (1, 1))),
    (2, 9, 9, 4, 6, 3, 2, ((1, 1), (1, 1))),
    (2, 8, 8, 4, 6, 3, 2, ((0, 1), (0, 1))),
    (2, 10, 9, 4, 6, 5, 2, ((1, 2), (2, 2))),
    (2, 16, 15, 3, 8, 7, 2, ((3, 3), (3, 3))),
    (2, 6, 6, 3, 4, 1, 1, ((1, 1), (1, 1))),
    # From here on in the forms for many channels.
    (2, 5, 5, 16, 3, 3, 1, ((1, 1), (1, 1))),
    (3, 6, 5, 16, 20, 3, 2, ((1, 1), (1, 1))),
    (2, 4, 5, 64, 3, 1, 2, ((0, 0), (0, 0))),
    (1, 2, 2, 512, 8, 3, 1, ((1, 1), (1, 1))),
    (1, 2, 2, 8, 512, 3, 1, ((1, 1), (1, 1))),
    # And those in Winograd's way, the last one in groups of images, one filled up.
    (2, 33, 32, 64, 64, 3, 1, ((1, 1), (1, 1))),
    (1, 64, 41, 64, 72, 3, 1, ((0, 2), (1, 0))),
    (8, 9, 9, 64, 64, 3, 1, ((2, 2), (2, 2))),
    (7, 54, 54, 64, 64, 3, 1, ((1, 1), (1, 1))),
]


@pytest.mark.parametrize("images, rows, columns, inputs, outputs, size, stride, padding", CASES)
def test_all_forms_agree(
    images: int,
    rows: int,
    columns: int,
    inputs: int,
    outputs: int,
    size: int,
    stride: int,
    padding: tuple,
) -> None:
    rng = np.random.default_rng(size + stride)
    x = rng.normal(size=(images, rows, columns, inputs))
    kernel = rng.normal(size=(size, size, inputs, outputs))
    with jax.enable_x64(True):
        results = [
            jax.jit(form, static_argnums=(2, 3))(x, kernel, stride, padding)
            for form in (by_product, by_convolution, conv2d)
        ]
        grad = rng.normal(size=results[0].shape)
        found, expected = (
            jax.jit(form, static_argnums=(3, 4))(x, kernel, grad, stride, padding)
            for form in (gradients_by_products, gradients_by_convolutions)
        )
    for ours, theirs in [*itertools.pairwise(results), *zip(found, expected, strict=True)]:
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def _lowered(platform: str, *shapes: tuple[int, ...]) -> str:
    """The program of a 1x1 convolution and its gradients for a platform that need not be here."""

    def gradients(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        return jax.value_and_grad(
            lambda x, kernel: jnp.sum(conv2d(x, kernel, 1, ((0, 0), (0, 0))) ** 2), argnums=(0, 1)
        )(x, kernel)

    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(gradients).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(
    "platform, convolutions, products", [("cpu", 0, 3), ("tpu", 3, 0), ("cuda", 3, 0)]
)
def test_products_are_for_cpus_alone(platform: str, convolutions: int, products: int) -> None:
    text = _lowered(platform, (2, 4, 4, 64), (1, 1, 64, 6))
    assert text.count("stablehlo.convolution") == convolutions
    assert text.count("stablehlo.dot_general") == products


def test_winograd_is_for_float32_on_cpus_where_no_gradient_is_wanted() -> None:
    arrays = [
        jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(4, 24, 24, 64), (3, 3, 64, 64)]
    ]
    convolve = lambda x, kernel: conv2d(x, kernel, 1, ((1, 1), (1, 1)))  # noqa: E731

    def products(function: Callable[..., object], platform: str, *shapes: object) -> int:
        traced = jax.jit(function).trace(*shapes)
        return traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.dot_general")

    assert products(convolve, "cpu", *arrays) == 16
    assert products(convolve, "tpu", *arrays) == 0
    half = [jax.ShapeDtypeStruct(array.shape, jnp.bfloat16) for array in arrays]
    assert products(convolve, "cpu", *half) == 0
    assert products(lambda *a: jax.vjp(convolve, *a)[0], "cpu", *arrays) == 0


def test_winograd_is_as_exact_as_the_plain_form() -> None:
    """By the largest result: in float32 both sum thousands of products."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 27, 27, 128)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 128, 64)).astype(np.float32)
    padding = ((1, 1), (1, 1))
    with jax.enable_x64(True):
        exact = by_convolution(x.astype(np.float64), kernel.astype(np.float64), 1, padding)
        exact = np.asarray(exact)
    error = np.abs(np.asarray(by_winograd(x, kernel, padding)) - exact).max()
    assert error < 2e-6 * np.abs(exact).max()


def test_the_gradient_of_a_call_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 2, 3))
    x = rng.normal(size=(2, 5, 5, 2))
    with jax.enable_x64(True):
        check_grads(
            lambda x, kernel: jnp.sin(conv2d(x, kernel, 2, ((1, 1), (1, 1)))),
            (x, kernel),
            order=1,
            modes=["rev"],
        )


def test_bfloat16_gradients_keep_their_type_and_sum_in_float32() -> None:
    x = jnp.full((8, 16, 16, 1), 1.0, jnp.bfloat16)
    kernel = jnp.ones((3, 3, 1, 1), jnp.bfloat16)
    loss = lambda x, kernel: conv2d(x, kernel, 1, ((1, 1), (1, 1))).astype(jnp.float32).sum()  # noqa: E731
    x_grad, kernel_grad = jax.jit(jax.grad(loss, argnums=(0, 1)))(x, kernel)
    assert x_grad.dtype == kernel_grad.dtype == jnp.bfloat16
    # 2048 ones summed in bfloat16 would stop at 256.
    assert float(kernel_grad[1, 1, 0, 0]) == 2048.0
