"""Where in each frame to look, from the last map of a light network and from the frames before."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.backbones.layers import batch_norm
from ar_net_jax.modules.gru import GRUCell
from ar_net_jax.modules.heads import Linear, matmul
from ar_net_jax.modules.recurrence import cell_macs

Array = jax.Array


def crop_policy_macs(side: int, channels: int, width: int, hidden: int) -> int:
    """Multiply-accumulates on one frame.

    Args:
        side: of the map.
        channels: D, of the map.
        width: see `CropPolicy`, like the following.
        hidden: likewise.
    """
    cells = side * side
    return (
        cells * channels * width
        + cells * width * hidden
        + cell_macs(hidden, hidden, gates=3)
        + hidden * 2
    )


class MapEncoder(nn.Module):
    """Squeezes each cell of a map, then reads all cells: product, BatchNorm, tanh, twice.

    Attributes:
        width: channels that a cell is squeezed to.
        hidden: H.
    """

    width: int
    hidden: int

    @nn.compact
    def __call__(self, maps: Array, *, train: bool) -> Array:
        """[N, h, w, D] to float32 [N, H]."""
        init = nn.initializers.lecun_normal()
        # No biases: BatchNorm would take them away again.
        squeeze = self.param("kernel_squeeze", init, (maps.shape[-1], self.width), jnp.float32)
        x = matmul(maps, squeeze)
        x = jnp.tanh(batch_norm(train=train, dtype=jnp.float32, name="norm_squeeze")(x))
        x = x.reshape(x.shape[0], -1)
        kernel = self.param("kernel", init, (x.shape[-1], self.hidden), jnp.float32)
        return jnp.tanh(batch_norm(train=train, dtype=jnp.float32, name="norm")(matmul(x, kernel)))


class CropPolicy(nn.Module):
    """Map encoder, a GRU over frames, and a place in the frame.

    Attributes:
        width: channels that a cell of the map is squeezed to.
        hidden: units of the encoder's result and of the GRU.
    """

    width: int
    hidden: int

    def setup(self) -> None:
        """Declares the submodules."""
        self.encoder = MapEncoder(self.width, self.hidden)
        self.gru = GRUCell(self.hidden, self.hidden)
        self.place = Linear(self.hidden, 2)

    def __call__(
        self, maps: Array, hidden: Array, selected: Array, *, train: bool
    ) -> tuple[Array, Array]:
        """Decides about frames in their order.

        Args:
            maps: float32 [B, T, h, w, D]; their gradient stops here.
            hidden: float32 [B, H], the GRU's state before these frames; zeros before the first.
            selected: bool [B, T]; a frame that is not leaves the state as it was.
            train: normalise by the batch and update the running statistics.

        Returns:
            Places float32 [B, T, 2], rows first, from 0 (at the top, or left) to 1; and the state.
        """
        batch, length = selected.shape
        flat = jax.lax.stop_gradient(maps).reshape(-1, *maps.shape[2:])
        features = self.encoder(flat, train=train).reshape(batch, length, -1)
        states, last = self.gru.unroll(features, hidden, selected)
        return nn.sigmoid(self.place(states)), last
