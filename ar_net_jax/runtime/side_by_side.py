"""Small pieces of work side by side, each in a process of its own on one core.

Networks of a few layers keep no more than one core busy: on two cores a training of the demo takes
hardly less time than on one, and two of them at a time take little more than half of the time that
they take one after the other.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol, cast

import jax

from ar_net_jax.errors import Preempted, StoppedByUser, UserError, first_line
from ar_net_jax.runtime.children import exit_with_parent
from ar_net_jax.runtime.compilation import keep_compiled_programs
from ar_net_jax.runtime.malloc import keep_freed_memory


class Task(Protocol):
    """A piece of work that waits for a core; it is sent to another process by pickling."""

    @property
    def title(self) -> str:
        """For messages and progress bars."""

    @property
    def compiled(self) -> Path:
        """Where compiled programs are kept."""

    def run(self, row: int = 0) -> None:
        """Does the work, or goes on where an earlier call stopped.

        Args:
            row: of the terminal, for a progress bar.
        """


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        seconds: that it took.
        failure: why it failed, in a line; empty where it did not.
    """

    seconds: float
    failure: str = ""


@dataclasses.dataclass
class _Lane:
    """A core, and the task that runs on it."""

    core: int
    row: int
    name: str
    task: Task
    process: BaseProcess
    reason: Connection
    started: float


def run_side_by_side(tasks: Mapping[str, Task], *, go_on: bool = False) -> dict[str, Outcome]:
    """Runs tasks: one after the other, or on a CPU side by side, one a core.

    Args:
        tasks: by any name, in the order in which they start.
        go_on: whether the others run on when one fails, which its outcome then tells.

    Returns:
        Outcomes by name.

    Raises:
        UserError: one of them failed, and the others are not to go on. Of those side by side it has
            said why itself, and the others are ended.
        Preempted: this process was told to stop, by SIGTERM or Ctrl-C; what was under way has saved
            its present step.
    """
    cores = _cores() if jax.default_backend() == "cpu" else [0]
    if len(tasks) > 1 and len(cores) > 1:
        return _side_by_side(tasks, cores, go_on)
    outcomes = {}
    for name, task in tasks.items():
        started, failure = time.monotonic(), ""
        try:
            task.run()
        except Preempted:
            raise
        except Exception as error:
            if not go_on:
                raise
            failure = _told(error)
            print(f"{task.title}: {failure}", file=sys.stderr)
        outcomes[name] = Outcome(time.monotonic() - started, failure)
    return outcomes


def _cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _side_by_side(
    tasks: Mapping[str, Task], cores: Sequence[int], go_on: bool
) -> dict[str, Outcome]:
    """As many at a time as there are cores."""
    waiting, free = deque(tasks.items()), deque(enumerate(cores))
    lanes: dict[int, _Lane] = {}
    outcomes: dict[str, Outcome] = {}
    with _ended_together(lanes) as told:
        while waiting or lanes:
            while waiting and free:
                lane = _start(*free.popleft(), *waiting.popleft())
                lanes[lane.process.sentinel] = lane
            for sentinel in wait(list(lanes)):
                lane = lanes.pop(cast(int, sentinel))
                lane.process.join()
                failure = _failure(lane, lanes, told)
                if failure and not go_on:
                    raise UserError(failure)
                outcomes[lane.name] = Outcome(time.monotonic() - lane.started, failure)
                free.append((lane.row, lane.core))
    # In the order of the tasks, not of their ends.
    return {name: outcomes[name] for name in tasks}


def _start(row: int, core: int, name: str, task: Task) -> _Lane:
    # Spawned, because forking a process in which JAX runs threads can hang.
    context = multiprocessing.get_context("spawn")
    reason, tell = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(row, core, task, tell))
    # Ctrl-C reaches all processes at the terminal, but only this one is to answer it. A process
    # starts with the signals that are blocked here, and ignores this one before it lets them in.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    tell.close()
    return _Lane(core, row, name, task, process, reason, time.monotonic())


def _work(row: int, core: int, task: Task, tell: Connection) -> None:
    """What runs in a lane's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    exit_with_parent()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})  # Before XLA counts the cores it may use.
    keep_freed_memory()
    keep_compiled_programs(task.compiled)
    try:
        task.run(row)
    except (UserError, Preempted) as error:
        print(f"{task.title}: {error}", file=sys.stderr)
        tell.send(_told(error))
        sys.exit(Preempted.EXIT_STATUS if isinstance(error, Preempted) else 1)
    except Exception as error:
        tell.send(_told(error))
        raise


def _told(error: Exception) -> str:
    """An error in a line; what is no user's mistake, with its type."""
    line = first_line(error)
    return line if isinstance(error, UserError | Preempted) else f"{type(error).__name__}: {line}"


def _failure(lane: _Lane, others: dict[int, _Lane], told: Sequence[int]) -> str:
    """Why a task has not come to its end; empty where it has.

    Raises:
        Preempted: it was told to stop; the others have saved where they can.
    """
    status = lane.process.exitcode
    if status == 0:
        return ""
    # Told before its first step, a training has nothing to save yet.
    if status == Preempted.EXIT_STATUS or (told and status == -signal.SIGTERM):
        for other in others.values():
            other.process.join()
        saved = "all that was under way has saved its present step"
        goes_on = f"{saved}, and the same command goes on from there"
        if signal.SIGINT in told:
            raise StoppedByUser(f"stopped; {goes_on}")
        raise Preempted(f"told to stop; {goes_on}")
    try:
        reason = lane.reason.recv() if lane.reason.poll() else ""
    except EOFError:
        reason = ""
    return (
        f"{lane.task.title} has ended with status {status}"
        + (f" ({reason})" if reason else "")
        + "; once what it said is put right, the same command goes on from its last checkpoint"
    )


@contextlib.contextmanager
def _ended_together(lanes: dict[int, _Lane]) -> Iterator[Sequence[int]]:
    """Passes an order to stop on to all lanes, and ends what is left of them in the end.

    Gives the signals by which such orders have come. A second Ctrl-C ends all at once.
    """
    told: list[int] = []

    def pass_on(number: int, _: object) -> None:
        if number == signal.SIGINT and number in told:
            raise KeyboardInterrupt
        told.append(number)
        for lane in lanes.values():
            lane.process.terminate()

    handled = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        handled.append(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, pass_on) for number in handled} if main else {}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for lane in lanes.values():
            lane.process.kill()
            lane.process.join()
