"""Gradient accumulation: the gradient of a batch that does not fit the devices at once."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.runtime.mesh import check_divisible

Array = jax.Array
Tree = Any
Batch = dict[str, Array]
# (parameters, BatchNorm statistics, batch) -> (gradient, (metrics, new statistics)).
Gradient = Callable[[Tree, Tree, Batch], tuple[Tree, tuple[dict[str, Array], Tree]]]


def check_batch(config: Config, mesh: Mesh) -> None:
    """Raises UserError if a training batch, or a micro-batch, cannot be split over the devices."""
    size, parts = config.data.batch_size, config.optimizer.micro_batches
    if parts > 1 and size // parts % mesh.size:
        raise UserError(
            f"config.optimizer.micro_batches: micro-batches of {size // parts} videos do not "
            f"divide evenly over {mesh.size} devices; make data.batch_size a multiple of "
            f"{parts * mesh.size}, or take fewer micro-batches"
        )
    check_divisible(size, mesh, "data.batch_size")


def split_batch(batch: Mapping[str, Array], parts: int, mesh: Mesh | None) -> Batch:
    """Splits every array [B, ...] of a batch into [parts, B / parts, ...].

    Part k has the rows k, k + parts, k + 2 * parts, ...: a device that holds adjacent rows then
    has its share of every part, and no row moves to another device.

    Args:
        batch: arrays with B rows.
        parts: number of micro-batches; divides B.
        mesh: the devices that the rows are sharded over, or None for one device.
    """

    def split(x: Array) -> Array:
        x = jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)
        if mesh is None:
            return x
        sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
        return jax.lax.with_sharding_constraint(x, sharding)

    return {name: split(x) for name, x in batch.items()}


def accumulate(
    gradient: Gradient, params: Tree, batch_stats: Tree, parts: Batch
) -> tuple[Tree, tuple[dict[str, Array], Tree]]:
    """The mean of the gradients of equal parts, one part in memory at a time.

    Args:
        gradient: that of one part, whose loss is a mean over videos.
        params: parameters, the same for all parts.
        batch_stats: BatchNorm's running statistics, carried from part to part.
        parts: from `split_batch`.

    Returns:
        The gradient, and the means of the metrics with the statistics after the last part.
    """

    def add(carry: tuple[Tree, Tree], part: Batch) -> tuple[tuple[Tree, Tree], dict[str, Array]]:
        total, batch_stats = carry
        grads, (metrics, batch_stats) = gradient(params, batch_stats, part)
        return (jax.tree.map(jnp.add, total, grads), batch_stats), metrics

    zeros = jax.tree.map(jnp.zeros_like, params)
    (total, batch_stats), metrics = jax.lax.scan(add, (zeros, batch_stats), parts)
    count = jax.tree.leaves(parts)[0].shape[0]
    mean = jax.tree.map(lambda x: x / count, total)
    return mean, (jax.tree.map(lambda x: jnp.mean(x, axis=0), metrics), batch_stats)
