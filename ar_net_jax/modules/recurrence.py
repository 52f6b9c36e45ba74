"""One LSTM layer in PyTorch's parametrisation: gates in the order i, f, g, o, and two biases."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.modules.heads import matmul

Array = jax.Array


class LSTMCell(nn.Module):
    """The input half is separate from the recurrent half, so that it can run on all frames at once.

    Attributes:
        input_size: D.
        hidden_size: H.
    """

    input_size: int
    hidden_size: int

    def setup(self) -> None:
        """Declares the parameters, uniform in +-1/sqrt(H) as in PyTorch."""
        bound = self.hidden_size**-0.5

        def init(key: Array, shape: tuple[int, ...]) -> Array:
            return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

        width = 4 * self.hidden_size
        self.kernel_ih = self.param("kernel_ih", init, (self.input_size, width))
        self.kernel_hh = self.param("kernel_hh", init, (self.hidden_size, width))
        self.bias_ih = self.param("bias_ih", init, (width,))
        self.bias_hh = self.param("bias_hh", init, (width,))

    def project(self, features: Array) -> Array:
        """The input's share of the gates: [..., D] -> [..., 4H]."""
        return matmul(features, self.kernel_ih) + self.bias_ih

    def recurrent(self) -> tuple[Array, Array]:
        """Kernel [H, 4H] and bias [4H] of the recurrent half, for use inside a scan."""
        return self.kernel_hh, self.bias_hh


def lstm_step(
    projected: Array, hidden: Array, cell: Array, recurrent: tuple[Array, Array]
) -> tuple[Array, Array]:
    """One step of the recurrence.

    Args:
        projected: [B, 4H], from `LSTMCell.project`.
        hidden: [B, H], the state before this step.
        cell: [B, H], likewise.
        recurrent: from `LSTMCell.recurrent`.

    Returns:
        The new hidden and cell state, [B, H] each.
    """
    kernel, bias = recurrent
    i, f, g, o = jnp.split(projected + matmul(hidden, kernel) + bias, 4, axis=-1)
    cell = nn.sigmoid(f) * cell + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(cell), cell
