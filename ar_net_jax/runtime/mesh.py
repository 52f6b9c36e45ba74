"""The device mesh, and how batches and variables are laid over it, on one host or many."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config

Tree = Any
# The parts of a batch that the device needs; the rest stays on the host.
DEVICE_FIELDS = ("frames", "labels", "example_id", "epoch", "mask")


def make_mesh() -> Mesh:
    """A mesh of all devices of all processes with the single axis `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


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


def check_batch(config: Config, mesh: Mesh) -> None:
    """Raises UserError if a training batch, or a micro-batch, cannot be split evenly."""
    size, parts = config.data.batch_size, config.optimizer.micro_batches
    if parts > 1 and size // parts % mesh.size:
        raise UserError(
            f"config.optimizer.micro_batches: micro-batches of {size // parts} videos do not "
            f"divide evenly over {mesh.size} devices; make data.batch_size a multiple of "
            f"{parts * mesh.size}, or take fewer micro-batches"
        )
    check_divisible(size, mesh, "data.batch_size")


def local_rows(batch_size: int, mesh: Mesh) -> list[int]:
    """The rows of a batch that lie on this process's devices, ascending.

    They follow from the mesh and not from the number of the process, because `make_mesh` may
    order the devices of a TPU slice by their place in the network.
    """
    slices = sharded(mesh).addressable_devices_indices_map((batch_size,)).values()
    return sorted({row for (rows,) in slices for row in range(*rows.indices(batch_size))})


def place(variables: Tree, mesh: Mesh) -> Tree:
    """Copies of arrays, the same on all processes, on every device."""
    return lay_out(variables, replicated(mesh))


def lay_out(arrays: Tree, shardings: Tree) -> Tree:
    """Lays arrays over the devices of all processes.

    Args:
        arrays: host or device arrays that are the same on all processes, or lie over all of them.
        shardings: one for all, or a tree of them like `arrays`.
    """
    if jax.process_count() == 1:
        return jax.device_put(arrays, shardings)
    if isinstance(shardings, NamedSharding):
        shardings = jax.tree.map(lambda _: shardings, arrays)
    return jax.tree.map(_place_one, arrays, shardings)


def _place_one(array: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return jax.device_put(array, sharding)
    # `device_put` would compare the processes' copies, and takes one that a process has put on its
    # only device for something to be sent elsewhere.
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def put_rows(rows: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Starts to move arrays to the devices, split along their first dimension.

    Args:
        rows: the rows of `local_rows`; the others come from the other processes.
        mesh: the devices.
    """
    return jax.make_array_from_process_local_data(sharded(mesh), dict(rows))


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Starts the transfer of a batch to the devices; only uint8 frames and indices cross.

    Args:
        batch: this process's rows.
        mesh: the devices.

    Returns:
        The batch of all processes.
    """
    return put_rows({name: batch[name] for name in DEVICE_FIELDS if name in batch}, mesh)


def gather(arrays: Tree) -> Tree:
    """Arrays that lie over the devices of all processes as numpy arrays, whole on each process."""
    if jax.process_count() == 1:
        return jax.device_get(arrays)
    return multihost_utils.process_allgather(arrays, tiled=True)


def gather_rows(rows: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, np.ndarray]:
    """The rows of all processes from the rows of each, in the order of the batch."""
    if jax.process_count() == 1:
        return dict(rows)
    return gather(put_rows(rows, mesh))


class DevicePrefetch:
    """Keeps the next batches on their way to the devices."""

    def __init__(
        self,
        source: Iterator[dict[str, np.ndarray]],
        put: Callable[[dict[str, np.ndarray]], dict[str, jax.Array]],
        depth: int = 2,
    ) -> None:
        """Wraps an endless iterator.

        Args:
            source: of batches on the host; closed with this object where it can be.
            put: moves a batch to the devices without waiting.
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
        """Lets go of the batches, and of the processes that make them."""
        self._queue.clear()
        if hasattr(self._source, "close"):
            self._source.close()
