"""The device mesh, and how batches and variables are sharded over it, on one host or many."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ar_net_jax.errors import UserError

Tree = Any
# The fields of a batch that the devices need; the rest stays on the host.
DEVICE_FIELDS = ("frames", "labels", "example_id", "epoch", "mask")


def make_mesh() -> Mesh:
    """A mesh of all devices of all processes with the single axis `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def memory_limit(mesh: Mesh) -> int:
    """Bytes that each device has; the devices that stand for a CPU share the host's memory."""
    stats = mesh.local_devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return host // len(mesh.local_devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of variables: a full copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def sharded(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: split over `data` along the first dimension."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_divisible(batch_size: int, mesh: Mesh, field: str) -> None:
    """Raises UserError if a batch cannot be split evenly over the devices."""
    if batch_size % mesh.size:
        raise UserError(
            f"config.{field}: {batch_size} does not divide evenly over {mesh.size} devices; "
            f"choose a multiple of {mesh.size}"
        )


def local_rows(batch_size: int, mesh: Mesh) -> list[int]:
    """The rows of a batch that lie on this process's devices, ascending.

    They follow from the mesh and not from the rank of the process, because `make_mesh` may
    order the devices of a TPU slice by their place in the network.
    """
    slices = sharded(mesh).addressable_devices_indices_map((batch_size,)).values()
    return sorted(
        {row for index in slices if index for row in range(*index[0].indices(batch_size))}
    )


def replicate(variables: Tree, mesh: Mesh) -> Tree:
    """Copies arrays, the same on all processes, to every device."""
    return shard(variables, replicated(mesh))


def shard(arrays: Tree, shardings: Tree) -> Tree:
    """Moves arrays to the devices of all processes.

    Args:
        arrays: host or device arrays that are the same on all processes, or global arrays.
        shardings: one for all, or a tree of them like `arrays`.

    Returns:
        Global arrays with these shardings.
    """
    if jax.process_count() == 1:
        return jax.device_put(arrays, shardings)
    if isinstance(shardings, NamedSharding):
        shardings = jax.tree.map(lambda _: shardings, arrays)
    return jax.tree.map(_shard_one, arrays, shardings)


def _shard_one(array: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        moved: jax.Array = jax.device_put(array, sharding)
        return moved
    # `device_put` would compare the copies of all processes, and would take an array on a process's
    # only device for one that is to be sent to another process.
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def shard_rows(rows: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Starts to move arrays to the devices, split along their first dimension.

    Args:
        rows: those of `local_rows`; the others come from the other processes.
        mesh: with the axis `data`.

    Returns:
        Global arrays with the rows of all processes.
    """
    return jax.make_array_from_process_local_data(sharded(mesh), dict(rows))


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Starts to move the fields of a batch that the devices need.

    Args:
        batch: this process's rows.
        mesh: with the axis `data`.

    Returns:
        The batch of all processes, as global arrays.
    """
    # Evaluation may impose decisions on the videos of a batch.
    sent = (*DEVICE_FIELDS, "forced_actions")
    return shard_rows({name: batch[name] for name in sent if name in batch}, mesh)


def gather(arrays: Tree) -> Tree:
    """Fetches global arrays whole, as numpy arrays on every process."""
    if jax.process_count() == 1:
        return jax.device_get(arrays)
    return multihost_utils.process_allgather(arrays, tiled=True)


def gather_rows(rows: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, np.ndarray]:
    """Joins the rows of all processes, in the order of the batch, on every process."""
    if jax.process_count() == 1:
        return dict(rows)
    gathered: dict[str, np.ndarray] = gather(shard_rows(rows, mesh))
    return gathered


class DevicePrefetch:
    """Keeps the next batches in transfer to the devices."""

    def __init__(
        self,
        source: Iterator[dict[str, np.ndarray]],
        put: Callable[[dict[str, np.ndarray]], dict[str, jax.Array]],
        depth: int = 2,
    ) -> None:
        """Wraps an endless iterator.

        Args:
            source: of batches on the host; closed with this object if it has a `close`.
            put: starts to move a batch to the devices.
            depth: batches fetched ahead.
        """
        self._source, self._put, self._depth = source, put, depth
        self._queue: deque[dict[str, jax.Array]] = deque()

    def __iter__(self) -> "DevicePrefetch":
        """Itself."""
        return self

    def __next__(self) -> dict[str, jax.Array]:
        """The next batch on the devices."""
        while len(self._queue) < self._depth:
            self._queue.append(self._put(next(self._source)))
        return self._queue.popleft()

    def close(self) -> None:
        """Drops the batches, and closes the source, which ends its worker processes."""
        self._queue.clear()
        if hasattr(self._source, "close"):
            self._source.close()
