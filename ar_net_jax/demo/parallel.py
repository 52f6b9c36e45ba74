"""Small trainings side by side, each in a process of its own on one core.

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
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

import jax

from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.workers import exit_with_parent
from ar_net_jax.errors import Preempted, UserError
from ar_net_jax.experiment import Config
from ar_net_jax.runtime.compilation import keep_compiled_programs
from ar_net_jax.runtime.malloc import keep_freed_memory
from ar_net_jax.training.log import Reporting
from ar_net_jax.training.loop import train


@dataclasses.dataclass(frozen=True)
class Training:
    """A training that waits for a core.

    Attributes:
        title: for the progress bar and for messages.
        config: of the run.
        workdir: of the run.
        data_dir: the folder of its data set, for `VideoSource`.
        compiled: where compiled programs are kept.
        progress: whether to show a bar.
        until: the stage to end with for now, as in `train`.
    """

    title: str
    config: Config
    workdir: Path
    data_dir: Path
    compiled: Path
    progress: bool
    until: str | None = None

    def run(self, reporting: Reporting | None = None) -> None:
        """Trains, or goes on where an earlier call stopped; raises what `train` raises."""
        splits = (VideoSource(self.data_dir, name) for name in ("train", "validation"))
        train(
            self.config,
            self.workdir,
            *splits,
            progress=self.progress,
            reporting=reporting,
            until=self.until,
        )


@dataclasses.dataclass
class _Lane:
    """A core, and the training that runs on it."""

    core: int
    row: int
    name: str
    training: Training
    process: BaseProcess
    started: float


def run_trainings(trainings: Mapping[str, Training]) -> dict[str, float]:
    """Runs trainings: one after the other, or on a CPU side by side, one a core.

    Args:
        trainings: by any name, in the order in which they start.

    Returns:
        Seconds by name.

    Raises:
        UserError: one of them failed. Of those side by side it has said why itself, and the
            others are ended.
        Preempted: this process was told to stop; what was under way has saved its present step.
    """
    cores = _cores() if jax.default_backend() == "cpu" else [0]
    print("training " + ", ".join(training.title for training in trainings.values()), flush=True)
    if len(trainings) > 1 and len(cores) > 1:
        return _side_by_side(trainings, cores)
    seconds = {}
    for name, training in trainings.items():
        started = time.monotonic()
        training.run(Reporting(title=training.title))
        seconds[name] = time.monotonic() - started
    return seconds


def _cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _side_by_side(trainings: Mapping[str, Training], cores: Sequence[int]) -> dict[str, float]:
    """As many at a time as there are cores."""
    waiting, free = deque(trainings.items()), deque(enumerate(cores))
    lanes: dict[int, _Lane] = {}
    seconds: dict[str, float] = {}
    with _ended_together(lanes) as told:
        while waiting or lanes:
            while waiting and free:
                lane = _start(*free.popleft(), *waiting.popleft())
                lanes[lane.process.sentinel] = lane
            for sentinel in wait(list(lanes)):
                lane = lanes.pop(cast(int, sentinel))
                lane.process.join()
                _check(lane, lanes, told.is_set())
                seconds[lane.name] = time.monotonic() - lane.started
                free.append((lane.row, lane.core))
    # In the order of the trainings, not of their ends.
    return {name: seconds[name] for name in trainings}


def _start(row: int, core: int, name: str, training: Training) -> _Lane:
    # Spawned, because forking a process in which JAX runs threads can hang.
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(row, core, training))
    process.start()
    return _Lane(core, row, name, training, process, time.monotonic())


def _work(row: int, core: int, training: Training) -> None:
    """What runs in a lane's process."""
    exit_with_parent()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})  # Before XLA counts the cores it may use.
    keep_freed_memory()
    keep_compiled_programs(training.compiled)
    try:
        training.run(Reporting(title=training.title, row=row))
    except (UserError, Preempted) as error:
        print(f"{training.title}: {error}", file=sys.stderr)
        sys.exit(Preempted.EXIT_STATUS if isinstance(error, Preempted) else 1)
    except KeyboardInterrupt:
        sys.exit(1)


def _check(lane: _Lane, others: dict[int, _Lane], told_to_stop: bool) -> None:
    """Raises if a training has not come to its end; lets the others save where they can."""
    status = lane.process.exitcode
    if status == 0:
        return
    # Told before its first step, a training has nothing to save yet.
    if status == Preempted.EXIT_STATUS or (told_to_stop and status == -signal.SIGTERM):
        for other in others.values():
            other.process.join()
        raise Preempted(
            "told to stop; every training has saved its present step, and the same "
            "command goes on from there"
        )
    raise UserError(
        f"the training of {lane.training.title} has ended with status {status}; once what it said "
        "is put right, the same command goes on from its last checkpoint"
    )


@contextlib.contextmanager
def _ended_together(lanes: dict[int, _Lane]) -> Iterator[threading.Event]:
    """Passes an order to stop on to all lanes, and ends what is left of them in the end.

    Gives whether the order has come.
    """
    told = threading.Event()

    def pass_on(*_: object) -> None:
        told.set()
        for lane in lanes.values():
            lane.process.terminate()

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, pass_on) if main else None
    try:
        yield told
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
        for lane in lanes.values():
            lane.process.kill()
            lane.process.join()
