"""Picking frames one after the other by attention: a recurrent query against a key of every frame.

Gao et al. 2020 (Listen to Look). An LSTM's state is turned into a query, the query is compared with
all keys at once, and what is attended to is the LSTM's next input. A frame is picked once at most.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.modules.heads import Embedding, Linear
from ar_net_jax.modules.recurrence import LSTMCell, LSTMState

Array = jax.Array


@flax.struct.dataclass
class Attended:
    """What was attended to in each of K steps.

    Attributes:
        weights: float32 [B, K, T], sums to 1 over the frames that were there to be picked; zeros
            where none was left.
        picks: bool [B, K, T], the frame of the largest weight, of equals the first; none where
            none was left.
    """

    weights: Array
    picks: Array

    @property
    def picked(self) -> Array:
        """Bool [B, T], the frames that were picked in any step."""
        return jnp.any(self.picks, axis=1)


def attend(query: Array, keys: Array, free: Array) -> tuple[Array, Array]:
    """Scaled dot-product attention over the frames that are free.

    Args:
        query: float32 [B, W].
        keys: float32 [B, T, W].
        free: bool [B, T], what may be attended to.

    Returns:
        weights float32 [B, T] and the pick bool [B, T], as in a step of `Attended`.
    """
    highest = jax.lax.Precision.HIGHEST
    scores = jnp.einsum("bw,btw->bt", query, keys, precision=highest) / keys.shape[-1] ** 0.5
    # Finite, so that a video without a free frame has a gradient; the product takes it out.
    scores = jnp.where(free, scores, np.finfo(np.float32).min)
    pick = jax.nn.one_hot(jnp.argmax(scores, axis=-1), scores.shape[-1], dtype=bool) & free
    return jax.nn.softmax(scores, axis=-1) * free, pick


class QueryAttention(nn.Module):
    """Keys of all frames, and an LSTM that queries them; all of it computes in float32.

    Attributes:
        features: D, width of a frame's features.
        hidden: H, units of the LSTM.
        width: W, of keys and queries.
    """

    features: int
    hidden: int
    width: int

    def setup(self) -> None:
        """Declares the submodules."""
        self.key = Embedding(self.features, self.width)
        self.cell = LSTMCell(self.features, self.hidden)
        self.query_hidden = Embedding(self.hidden, self.hidden)
        self.query = Linear(self.hidden, self.width)

    def __call__(
        self, features: Array, mask: Array, steps: int, *, train: bool = False
    ) -> Attended:
        """Attends K times.

        The LSTM's first input is the mean of all frames' features. In training the next is their
        mean under the weights, through which the choice is learnt; else the picked frame's.

        Args:
            features: float32 [B, T, D].
            mask: bool [B, T], False on padding.
            steps: K.
            train: soft inputs, and BatchNorm by the batch.
        """
        keys = self.key(features, train=train)
        count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
        start = _mean_under(mask / count, features)
        if self.is_initializing():
            # What a scan carries, statistics too, has to be there before it.
            self.query_hidden(jnp.zeros((1, self.hidden)))
        carried = self.is_mutable_collection("batch_stats")

        def step(
            module: "QueryAttention", state: tuple[LSTMState, Array, Array], _: None
        ) -> tuple[tuple[LSTMState, Array, Array], Attended]:
            lstm, given, free = state
            lstm = module.cell.step(lstm, module.cell.project(given))
            query = module.query(module.query_hidden(lstm.hidden, train=train))
            weights, pick = attend(query, keys, free)
            given = _mean_under(weights if train else pick, features)
            return (lstm, given, free & ~pick), Attended(weights, pick)

        scan = nn.scan(
            step,
            variable_broadcast="params" if carried else ["params", "batch_stats"],
            variable_carry="batch_stats" if carried else False,
            split_rngs={"params": False},
            out_axes=1,
            length=steps,
        )
        _, attended = scan(self, (self.cell.initial_state(features.shape[0]), start, mask), None)
        return attended


def _mean_under(weights: Array, features: Array) -> Array:
    """[B, T] of any type and float32 [B, T, D] -> float32 [B, D]."""
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("bt,btd->bd", weights.astype(jnp.float32), features, precision=highest)
