"""Preemption: SIGTERM says that the machine is about to be taken away, to one process or to all."""

import itertools
import signal
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeVar

import jax
from jax.experimental import multihost_utils

Item = TypeVar("Item")

# JAX identifies a sync point by a step number that must never fall, even over several trainings in
# one process; so the calls are numbered over the life of the process.
_calls = itertools.count(1)


class Interrupted(Exception):
    """Preemption was requested during work that can be repeated, such as an evaluation."""


class PreemptionHandler:
    """Tells whether the machine is to be given up; used as a context manager around training.

    A single process handles SIGTERM itself. Of several, each that gets SIGTERM tells the others
    through JAX's coordination service, and all of them learn of it at the same call.
    """

    def __init__(self) -> None:
        self._requested = False
        self._previous: Callable[[int, types.FrameType | None], Any] | int | None = None

    def requested(self) -> bool:
        """Whether to save and stop here. All processes must call this equally often."""
        if jax.process_count() == 1:
            return self._requested
        return multihost_utils.reached_preemption_sync_point(next(_calls))

    def interruptible(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items, and raises `Interrupted` once preemption is requested."""
        for item in items:
            if self.requested():
                raise Interrupted
            yield item

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        if jax.process_count() == 1 and main:
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _handle(self, number: int, frame: types.FrameType | None) -> None:
        self._requested = True
