"""Finds losses and parameters that are not finite, so that a diverged training is never saved."""

import math
from collections import deque
from typing import Any

import jax
import jax.numpy as jnp

# Steps that may be queued on the devices. Without a bound, a host that reads faster than the
# devices compute would fill their memory with batches.
_IN_FLIGHT = 2


class NaNGuard:
    """Checks the loss of every step, but fetches the losses only when asked.

    It also bounds how far the host may run ahead of the devices.
    """

    def __init__(self) -> None:
        self._pending: deque[tuple[int, jax.Array]] = deque()

    def add(self, step: int, loss: jax.Array) -> None:
        """Keeps the loss of a step; waits while more than a few steps are queued."""
        self._pending.append((step, loss))
        if len(self._pending) > _IN_FLIGHT:
            self._pending[-1 - _IN_FLIGHT][1].block_until_ready()

    def idle(self) -> bool:
        """Whether the devices have finished all steps."""
        if not self._pending:
            return True
        ready: bool = self._pending[-1][1].is_ready()  # type: ignore[attr-defined]
        return ready

    def first_nonfinite(self) -> tuple[int, float] | None:
        """Fetches the losses added since the last call.

        Returns:
            Step and loss of the first one that is NaN or infinite, or None.
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
    # One array of all: a reduction of each by itself took a core 5 s to compile.
    return jnp.all(jnp.isfinite(jnp.concatenate([jnp.ravel(x) for x in floats])))
