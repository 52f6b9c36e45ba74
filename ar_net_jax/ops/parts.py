"""A network on many frames, some after others, so that its maps stay in the chip's own memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Tree = Any


def run_in_parts(network: Callable[[Tree], Array], frames: Tree, size: int) -> Array:
    """Runs a network on frames of which none depends on another, `size` at a time.

    Args:
        network: [n, ...] frames to [n, D].
        frames: [N, ...], or a tree of such arrays. Where N is symbolic, all run at once.
        size: of a part; what remains at the end is one more, smaller.

    Returns:
        [N, D].
    """
    total = jax.tree.leaves(frames)[0].shape[0]
    if not isinstance(total, int) or total <= size:
        return network(frames)
    count, left = divmod(total, size)
    parts = jax.tree.map(
        lambda x: x[: count * size].reshape(count, size, *x.shape[1:]),
        frames,
    )
    found = jax.lax.map(network, parts)
    found = found.reshape(count * size, *found.shape[2:])
    if not left:
        return found
    last = network(jax.tree.map(lambda x: x[count * size :], frames))
    return jnp.concatenate([found, last])
