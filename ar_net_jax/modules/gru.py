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

    def unroll(self, features: Array, hidden: Array, selected: Array) -> tuple[Array, Array]:
        """Steps over frames; one that is not selected leaves the state as it was.

        Args:
            features: float32 [B, T, D].
            hidden: float32 [B, H], before the first frame.
            selected: bool [B, T].

        Returns:
            The states after each frame, float32 [B, T, H], and the last of them.
        """

        def step(cell: GRUCell, state: Array, given: tuple[Array, Array]) -> tuple[Array, Array]:
            projected, seen = given
            state = jnp.where(seen[:, None], cell.step(state, projected), state)
            return state, state

        scan = nn.scan(
            step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1
        )
        last, states = scan(self, hidden, (self.project(features), selected))
        return states, last
