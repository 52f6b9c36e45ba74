"""Randomness that belongs to an example, not to its place in a batch.

Every mask is drawn from a key of its own row, so a result does not depend on how the batch is laid
over devices, padded, or split into micro-batches.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def example_keys(seed: int | Array, epoch: Array, example_id: Array) -> Array:
    """Derives one key per example from (seed, epoch, example id).

    Args:
        seed: the run's seed, a Python integer or int32 scalar.
        epoch: int32 [B], the pass over the data that each example belongs to.
        example_id: int32 [B], the example's index within its split.

    Returns:
        Typed PRNG keys [B].
    """
    root = jax.random.key(seed)

    def one(e: Array, i: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(root, e), i)

    return jax.vmap(one)(epoch, example_id)


def per_frame_keys(keys: Array, num_frames: int) -> Array:
    """Splits the keys of B videos into one per frame: [B] -> [B * num_frames]."""
    return jax.vmap(lambda k: jax.random.split(k, num_frames))(keys).reshape(-1)


def _keep_mask(keys: Array, salt: int, keep: float, shape: tuple[int, ...]) -> Array:
    return jax.vmap(lambda k: jax.random.bernoulli(jax.random.fold_in(k, salt), keep, shape))(keys)


def dropout(x: Array, rate: float, keys: Array | None, salt: int) -> Array:
    """Zeroes each element with probability `rate` and rescales the rest by 1 / (1 - rate).

    Args:
        x: [N, ...] activations.
        rate: drop probability in [0, 1).
        keys: typed keys [N], or None for the identity (evaluation).
        salt: a constant that tells this layer from the others that share the keys.

    Returns:
        The same shape and dtype as `x`.
    """
    if keys is None or rate == 0.0:
        return x
    keep = _keep_mask(keys, salt, 1.0 - rate, x.shape[1:])
    return jnp.where(keep, x / np.asarray(1.0 - rate, x.dtype), jnp.zeros((), x.dtype))


def drop_path(x: Array, rate: float, keys: Array | None, salt: int) -> Array:
    """Stochastic depth (Huang et al. 2016): drops a row of a residual branch as a whole.

    Args and result as in `dropout`, with one decision for each row of `x`.
    """
    if keys is None or rate == 0.0:
        return x
    keep = _keep_mask(keys, salt, 1.0 - rate, (1,) * (x.ndim - 1))
    return jnp.where(keep, x / np.asarray(1.0 - rate, x.dtype), jnp.zeros((), x.dtype))
