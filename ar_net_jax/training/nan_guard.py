"""Stops a training that has diverged, before a checkpoint keeps what it has become."""

import math
from collections import deque
from typing import Any

import jax
import jax.numpy as jnp

# Steps that may be on their way to the devices. Without a bound, a host that reads faster than
# the devices compute would fill their memory with batches.
_IN_FLIGHT = 2


class LossWatch:
    """Looks at the loss of every step, but fetches them only now and then."""

    def __init__(self) -> None:
        self._pending: deque[tuple[int, jax.Array]] = deque()

    def add(self, step: int, loss: jax.Array) -> None:
        """Notes the loss of a step; waits until no more than a few steps are under way."""
        self._pending.append((step, loss))
        if len(self._pending) > _IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - _IN_FLIGHT][1])

    def idle(self) -> bool:
        """Whether the devices have finished all steps."""
        return not self._pending or self._pending[-1][1].is_ready()

    def first_bad(self) -> tuple[int, float] | None:
        """Fetches the losses noted since the last call.

        Returns:
            Step and loss of the first that is not finite, or None.
        """
        pending = list(self._pending)
        self._pending.clear()
        losses = jax.device_get([loss for _, loss in pending])
        for (step, _), loss in zip(pending, losses):
            if not math.isfinite(loss):
                return step, float(loss)
        return None


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """Whether no array of floats in the tree holds a NaN or an infinity: bool scalar."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in floats]))
