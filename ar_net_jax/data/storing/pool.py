"""Work on videos, shared out among processes."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

import cloudpickle

from ar_net_jax.config.files import FILE_MODULES
from ar_net_jax.data.builder import VideoBuilder
from ar_net_jax.errors import UserError
from ar_net_jax.runtime.children import exit_with_parent

Job = TypeVar("Job")
Result = TypeVar("Result")
Pulse = Callable[[], None]
Task = Callable[[VideoBuilder, Job, Pulse], Result]

# A process takes seconds to start: less than so many bytes of videos is sooner done without.
_WORTH_A_PROCESS = 8 * 2**20


class _Stopped(Exception):
    """The rest of the work is not wanted any more."""


def choose_processes(wanted: int | None, jobs: int, size: int) -> int:
    """How many processes to share work among.

    Args:
        wanted: by the user; None for as many as cores, or fewer where there is little to do.
        jobs: that can be done apart from each other.
        size: bytes of the videos.
    """
    if wanted is None:
        wanted = min(len(os.sched_getaffinity(0)), 1 + size // _WORTH_A_PROCESS)
    return max(1, min(wanted, jobs))


def pack(task: Callable[..., Any], builder: VideoBuilder) -> bytes:
    """A task with its builder, to be unpacked by `cloudpickle.loads` in another process.

    A builder's class may come from a file that is no importable module; it is then sent whole.
    """
    for cls in type(builder).__mro__:
        if cls.__module__.startswith(FILE_MODULES):
            cloudpickle.register_pickle_by_value(sys.modules[cls.__module__])
    return cloudpickle.dumps((task, builder))


def run_jobs(
    task: Task[Job, Result], builder: VideoBuilder, jobs: Sequence[Job], processes: int
) -> Iterator[Result]:
    """The results of a task on each of several jobs, in the order in which they are done.

    Args:
        task: given the builder, a job, and what it should call often, so that it can be stopped.
        builder: of the data set.
        jobs: what to do.
        processes: how many to share it among; 1 works in this one.

    Raises:
        UserError: a process has died.
    """
    if processes == 1:
        for job in jobs:
            yield task(builder, job, lambda: None)
        return
    # Spawned, because forking a process in which JAX runs threads can hang.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    packed = pack(task, builder)
    with concurrent.futures.ProcessPoolExecutor(
        processes, context, _start_worker, (packed, stop)
    ) as pool:
        try:
            futures = [pool.submit(_work, job) for job in jobs]
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a process that reads videos has died, often for want of memory; the same command "
                "goes on where this one stopped, and may have fewer processes (--processes). A "
                'script of your own calls this below `if __name__ == "__main__":`'
            ) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


_task: Callable[[Any], Any]


def _start_worker(packed: bytes, stop: Event) -> None:
    exit_with_parent()
    # Ctrl-C reaches all processes; the parent says what is to happen then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    task, builder = cloudpickle.loads(packed)

    def pulse() -> None:
        if stop.is_set():
            raise _Stopped

    global _task
    _task = lambda job: task(builder, job, pulse)  # noqa: E731


def _work(job: Any) -> Any:
    with contextlib.suppress(_Stopped):
        return _task(job)
    return None
