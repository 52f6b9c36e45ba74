"""One GRU layer in PyTorch's parametrisation: gates in the order r, z, n, and two biases."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.modules.heads import matmul

Array = jax.Array


class GRUCell(nn.Module):
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

        width = 3 * self.hidden_size
        self.kernel_ih = self.param("kernel_ih", init, (self.input_size, width))
        self.kernel_hh = self.param("kernel_hh", init, (self.hidden_size, width))
        self.bias_ih = self.param("bias_ih", init, (width,))
        self.bias_hh = self.param("bias_hh", init, (width,))

    def project(self, features: Array) -> Array:
        """The input's share of the gates: [..., D] -> [..., 3H]."""
        return matmul(features, self.kernel_ih) + self.bias_ih

    def step(self, hidden: Array, projected: Array) -> Array:
        """One step: the state float32 [..., H], and the input's share of the gates [..., 3H]."""
        recurrent = matmul(hidden, self.kernel_hh) + self.bias_hh
        r_in, z_in, n_in = jnp.split(projected, 3, axis=-1)
        r_rec, z_rec, n_rec = jnp.split(recurrent, 3, axis=-1)
        update = nn.sigmoid(z_in + z_rec)
        new = jnp.tanh(n_in + nn.sigmoid(r_in + r_rec) * n_rec)
        return (1 - update) * new + update * hidden
