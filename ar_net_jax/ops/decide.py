"""The ways to decide about a frame from a decision head's logits: one strategy object each.

`inputs` draws or prepares what a decision takes besides the logits, for all frames at once, so that
`choose` can run inside a scan over time. `offset`, float32 [A], is added to the logits first:
favouring cheap actions saves computation without retraining; None adds nothing.
"""

from typing import Protocol, TypeVar

import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax.ops import gumbel

Array = jax.Array
I = TypeVar("I")  # noqa: E741

# Keeps the decisions' noise apart from the dropout masks drawn from the same keys.
_NOISE_SALT = 2_000


class Decide(Protocol[I]):
    """How decisions are made.

    I is what they take besides logits, an array or None.
    """

    @property
    def offset(self) -> Array | None:
        """Float32 [A], added to the logits."""

    def inputs(self, keys: Array | None, length: int, count: int) -> I:
        """What the decisions on B videos of T frames take besides logits.

        Args:
            keys: one typed PRNG key per video [B], or None where nothing is drawn.
            length: T.
            count: A, the number of actions.

        Returns:
            [B, T, ...], or None.
        """

    def choose(self, logits: Array, inputs: I) -> Array:
        """The action on one frame of each video: logits float32 [B, A] to a one-hot [B, A]."""


@flax.struct.dataclass
class Argmax:
    """The most likely action, without a gradient."""

    offset: Array | None = None

    def inputs(self, keys: Array | None, length: int, count: int) -> None:
        """Nothing; see `Decide`."""

    def choose(self, logits: Array, inputs: None) -> Array:
        """See `Decide`."""
        return gumbel.argmax_one_hot(logits)


@flax.struct.dataclass
class GumbelSample:
    """A straight-through Gumbel-Softmax sample (equations 5 to 8) at a temperature.

    `noise_scale` multiplies the noise: at 1 a sample follows the head's probabilities, below it is
    closer to the most likely action.
    """

    tau: Array | float
    offset: Array | None = None
    noise_scale: float = flax.struct.field(pytree_node=False, default=1.0)

    def inputs(self, keys: Array | None, length: int, count: int) -> Array:
        """Gumbel noise float32 [B, T, A]; see `Decide`.

        Raises:
            ValueError: there are no keys to draw it from.
        """
        if keys is None:
            raise ValueError("sampled decisions draw noise: give one key per video")
        salted = jax.vmap(lambda key: jax.random.fold_in(key, _NOISE_SALT))(keys)
        return self.noise_scale * gumbel.gumbel_noise(salted, length, count)

    def choose(self, logits: Array, inputs: Array) -> Array:
        """See `Decide`."""
        return gumbel.sample(logits, inputs, self.tau)


@flax.struct.dataclass
class Forced:
    """Actions imposed from outside, int32 [B, T]; subject to skip coverage like any other."""

    actions: Array
    offset: Array | None = None

    def inputs(self, keys: Array | None, length: int, count: int) -> Array:
        """The actions; see `Decide`."""
        return self.actions

    def choose(self, logits: Array, inputs: Array) -> Array:
        """See `Decide`."""
        return jax.nn.one_hot(inputs, logits.shape[-1], dtype=jnp.float32)
