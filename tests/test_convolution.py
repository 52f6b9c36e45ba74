"""The convolution whose gradients are written out agrees with XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ar_net_jax.ops.conv_cpu import (
    conv2d,
    gradients_by_convolutions,
    gradients_by_products,
)

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
]


@pytest.mark.parametrize("images, rows, columns, inputs, outputs, size, stride, padding", CASES)
def test_both_forms_of_the_gradients_agree(
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
    x = rng.normal(size=(images, rows, columns, inputs)).astype(np.float32)
    kernel = rng.normal(size=(size, size, inputs, outputs)).astype(np.float32)
    result = jax.eval_shape(lambda *a: conv2d(*a, stride, padding), x, kernel)
    grad = rng.normal(size=result.shape).astype(np.float32)
    found, expected = (
        jax.jit(form, static_argnums=(3, 4))(x, kernel, grad, stride, padding)
        for form in (gradients_by_products, gradients_by_convolutions)
    )
    for ours, theirs in zip(found, expected):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


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
