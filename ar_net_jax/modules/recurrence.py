"""One LSTM layer in PyTorch's parametrisation: gates in the order i, f, g, o, and two biases.

Flax's own cells hold one bias and other names; with them no released checkpoint, and none of this
package's, would load.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax.modules.heads import matmul

Array = jax.Array


def cell_macs(inputs: int, hidden: int, gates: int = 4) -> int:
    """Multiply-accumulates of one step of a recurrent cell.

    Args:
        inputs: width of its input.
        hidden: its units.
        gates: 4 of an LSTM, 3 of a GRU.
    """
    return gates * hidden * (inputs + hidden)


@flax.struct.dataclass
class LSTMState:
    """Hidden state and cell of a layer, float32 [B, H] each."""

    hidden: Array
    cell: Array


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

    def initial_state(self, batch: int) -> LSTMState:
        """The state before the first frame of `batch` videos: zeros."""
        zeros = jnp.zeros((batch, self.hidden_size))
        return LSTMState(zeros, zeros)

    def project(self, features: Array) -> Array:
        """The input's share of the gates: [..., D] -> [..., 4H]."""
        return matmul(features, self.kernel_ih) + self.bias_ih

    def step(self, state: LSTMState, projected: Array) -> LSTMState:
        """One step of the recurrence.

        Args:
            state: before the step.
            projected: float32 [B, 4H], from `project`.
        """
        gates = projected + matmul(state.hidden, self.kernel_hh) + self.bias_hh
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        cell = nn.sigmoid(f) * state.cell + nn.sigmoid(i) * jnp.tanh(g)
        return LSTMState(nn.sigmoid(o) * jnp.tanh(cell), cell)

    def unroll(self, features: Array) -> Array:
        """Hidden states float32 [B, T, H] of features [B, T, D], from zero states on."""

        def step(cell: LSTMCell, state: LSTMState, projected: Array) -> tuple[LSTMState, Array]:
            state = cell.step(state, projected)
            return state, state.hidden

        projected = self.project(features)
        scan = nn.scan(
            step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1
        )
        _, hidden = scan(self, self.initial_state(features.shape[0]), projected)
        return hidden
