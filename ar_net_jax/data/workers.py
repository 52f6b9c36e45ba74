"""Worker processes: they exit when their parent does, and the parent notices when one dies."""

import contextlib
import itertools
import mmap
import multiprocessing
import os
import signal
import traceback
from collections.abc import Generator, Mapping, Sequence
from multiprocessing import reduction
from multiprocessing.connection import Connection

import cloudpickle
import numpy as np

from ar_net_jax.errors import UserError
from ar_net_jax.runtime.children import exit_with_parent

Batch = dict[str, np.ndarray]
# One example: arrays, and numbers of no dimension.
Row = Mapping[str, np.ndarray | np.generic]

_AHEAD = 2  # batches that a worker may have made and not delivered
_ALIGNMENT = 64  # bytes: arrays begin where JAX can take them over without a copy

# Where an array lies in a batch's memory: its dtype, shape and first byte.
_Layout = dict[str, tuple[np.dtype, tuple[int, ...], int]]


def read_by_workers(
    rows: Sequence[Row], batch_size: int, num_workers: int
) -> Generator[Batch, None, None]:
    """Batches of rows, stacked, that worker processes make; closing the iterator ends them.

    Worker w makes batches w, w + num_workers and so on, so that what the batches hold does not
    depend on how many workers there are. A batch comes in memory that has no name: nothing is left
    in /dev/shm however the processes end, nor is that folder's size a limit.

    Args:
        rows: dicts of the same keys, shapes and dtypes; sent to the workers, which index it.
        batch_size: rows of a batch; a last batch that is not full is left out.
        num_workers: processes.

    Yields:
        Dicts of arrays with `batch_size` rows.

    Raises:
        UserError: a worker has died. What `rows` raises in a worker is raised here.
    """
    work = cloudpickle.dumps((rows, batch_size))
    num_batches = len(rows) // batch_size
    workers: list[_Worker] = []
    try:
        workers += [_Worker(work, range(i, num_batches, num_workers)) for i in range(num_workers)]
        for _, worker in zip(range(num_batches), itertools.cycle(workers)):
            yield worker.receive()
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that makes some of the batches, and this end of the line to it."""

    def __init__(self, work: bytes, numbers: range) -> None:
        # Spawned: a fork of a process with JAX's threads may hang.
        context = multiprocessing.get_context("spawn")
        self._line, far_end = context.Pipe()
        self._process = context.Process(target=_work, args=(far_end, work, numbers), daemon=True)
        self._process.start()
        # Now the worker's alone: when it dies, the line ends.
        far_end.close()
        for _ in range(_AHEAD):
            self._allow()

    def _allow(self) -> None:
        """Lets the worker make one batch more."""
        try:
            self._line.send(None)
        except BrokenPipeError:
            pass  # What it sent before it ended is still to be received.

    def receive(self) -> Batch:
        """The worker's next batch."""
        try:
            layout, size, failure = self._line.recv()
            descriptor = -1 if failure else reduction.recv_handle(self._line)
        except (EOFError, OSError) as error:
            self._process.join()
            raise UserError(
                f"a process that reads data has died (exit code {self._process.exitcode}), often "
                "for want of memory; the same command goes on from the last checkpoint, and "
                "config.data.num_workers may be lower"
            ) from error
        if failure:
            raise cloudpickle.loads(failure)
        try:
            memory = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._allow()
        # The arrays hold the memory; with the last of them it is given back.
        return _arrays(memory, layout)

    def end(self) -> None:
        """Ends the process at once: it owns nothing that would have to be put in order."""
        self._line.close()
        # At the exit of the interpreter multiprocessing has ended it before.
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()


def _arrays(memory: mmap.mmap, layout: _Layout) -> Batch:
    return {
        name: np.ndarray(shape, dtype, memory, offset)
        for name, (dtype, shape, offset) in layout.items()
    }


def _work(line: Connection, work: bytes, numbers: range) -> None:
    """What a worker does: makes the batches of these numbers, each when it is allowed to."""
    # Ctrl-C reaches all processes at the terminal: the parent answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_with_parent()
    # The line breaks when the parent wants no more.
    with contextlib.suppress(EOFError, ConnectionError):
        try:
            rows, batch_size = cloudpickle.loads(work)
        except Exception as error:
            line.send((None, 0, _packed(error)))
            return
        for number in numbers:
            line.recv()
            first = number * batch_size
            try:
                batch = _stack([rows[first + i] for i in range(batch_size)])
            except Exception as error:
                line.send((None, 0, _packed(error)))
                return
            _deliver(line, *batch)


def _packed(error: Exception) -> bytes:
    error.add_note(f"In a process that reads data:\n{traceback.format_exc()}")
    try:
        packed = cloudpickle.dumps(error)
        cloudpickle.loads(packed)
        return packed
    except Exception:
        # Some cannot be sent, for their constructor asks for more than a message.
        return cloudpickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))


def _stack(rows: list[Row]) -> tuple[int, int, _Layout]:
    """Stacks rows in memory without a name: its descriptor, its size, what lies where in it."""
    layout: _Layout = {}
    size = 0
    for name, value in rows[0].items():
        layout[name] = (value.dtype, (len(rows), *value.shape), size)
        size += -(-value.nbytes * len(rows) // _ALIGNMENT) * _ALIGNMENT
    descriptor = os.memfd_create("batch")
    os.ftruncate(descriptor, size)
    for name, array in _arrays(mmap.mmap(descriptor, size), layout).items():
        np.stack([row[name] for row in rows], out=array)
    return descriptor, size, layout


def _deliver(line: Connection, descriptor: int, size: int, layout: _Layout) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None, "called in a worker"
    line.send((layout, size, None))
    reduction.send_handle(line, descriptor, parent.pid)
    os.close(descriptor)
