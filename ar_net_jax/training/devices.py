"""The device mesh, and how batches and variables are laid over it."""

from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ar_net_jax.errors import UserError

# The parts of a batch that the device needs; the rest stays on the host.
DEVICE_FIELDS = ("frames", "labels", "example_id", "epoch", "mask")


def make_mesh() -> Mesh:
    """A mesh of all devices with the single axis `data`."""
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


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Starts the transfer of a batch to the devices; only uint8 frames and indices cross."""
    wanted = {k: batch[k] for k in DEVICE_FIELDS if k in batch}
    return jax.device_put(wanted, sharded(mesh))


class DevicePrefetch(grain.DatasetIterator):
    """Keeps the next batches on their way to the devices, and knows where the consumer stands.

    `get_state` gives the source's position after the batch last handed out, not after the
    batches fetched ahead, so that a checkpoint resumes with the very next batch.
    """

    def __init__(
        self,
        source: Iterator[dict[str, np.ndarray]],
        put: Callable[[dict[str, np.ndarray]], dict[str, jax.Array]],
        depth: int = 2,
    ) -> None:
        """Wraps a checkpointable iterator.

        Args:
            source: an iterator with `get_state` and `set_state`.
            put: moves a batch to the devices without waiting.
            depth: batches fetched ahead.
        """
        super().__init__()
        self._source, self._put, self._depth = source, put, depth
        self._queue: list[tuple[dict[str, jax.Array], Any]] = []
        self._state = source.get_state()

    def __iter__(self) -> "DevicePrefetch":
        """Itself."""
        return self

    def __next__(self) -> dict[str, jax.Array]:
        """The next batch on the devices."""
        while len(self._queue) < self._depth:
            batch = self._put(next(self._source))
            self._queue.append((batch, self._source.get_state()))
        batch, self._state = self._queue.pop(0)
        return batch

    def get_state(self) -> Any:
        """Position after the batch last handed out."""
        return self._state

    def start_prefetch(self) -> None:
        """Nothing to start: fetching ahead begins with the first batch asked for."""

    def set_state(self, state: Any) -> None:
        """Moves to a position from `get_state`."""
        self._queue.clear()
        self._source.set_state(state)
        self._state = state
