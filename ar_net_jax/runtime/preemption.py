"""Orders to stop: SIGTERM says that the machine is about to be taken away, Ctrl-C is the user's."""

import itertools
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeVar

import jax
from jax.experimental import multihost_utils

from ar_net_jax.errors import Preempted, StoppedByUser

Item = TypeVar("Item")
_Handler = Callable[[int, types.FrameType | None], Any] | int | None

# JAX identifies a sync point by a step number that must never fall, even over several trainings in
# one process; so the calls are numbered over the life of the process.
_calls = itertools.count(1)


class Interrupted(Exception):
    """An order to stop came during work that can be repeated, such as an evaluation."""


class PreemptionHandler:
    """Tells whether to save and stop; used as a context manager around training.

    A single process handles SIGTERM and SIGINT (Ctrl-C) itself. Of several, each that gets one
    tells the others through JAX's coordination service, and all of them learn of it at the same
    call. A second Ctrl-C stops at once, with nothing saved. Where SIGINT is ignored, as in a
    background job of a shell, it stays so.
    """

    def __init__(self) -> None:
        self._requested = False
        self._by_user = False
        self._previous: dict[signal.Signals, _Handler] = {}

    def requested(self) -> bool:
        """Whether to save and stop here. All processes must call this equally often."""
        if jax.process_count() == 1:
            return self._requested
        return multihost_utils.reached_preemption_sync_point(next(_calls))

    def interruptible(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items, and raises `Interrupted` once there is an order to stop."""
        for item in items:
            if self.requested():
                raise Interrupted
            yield item

    def notice(self, saved: str) -> Preempted:
        """What to raise once all is saved.

        Args:
            saved: what and how far, such as "stage 'joint' is saved at step 3 of 12".
        """
        goes_on = f"{saved}, and the same command goes on from there"
        if self._by_user:
            return StoppedByUser(f"stopped; {goes_on}")
        return Preempted(f"told to stop; {goes_on}")

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        if jax.process_count() == 1:
            self._handle(signal.SIGTERM, self._on_sigterm)
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            self._handle(signal.SIGINT, self._on_sigint)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()

    def _handle(self, number: signal.Signals, handler: _Handler) -> None:
        self._previous[number] = signal.signal(number, handler)

    def _on_sigterm(self, number: int, frame: types.FrameType | None) -> None:
        self._requested = True

    def _on_sigint(self, number: int, frame: types.FrameType | None) -> None:
        if self._by_user:
            raise KeyboardInterrupt
        self._requested = self._by_user = True
        # Not by `print`, which the signal may have interrupted.
        told = "\nstopping after this step; Ctrl-C once more stops at once, unsaved\n"
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, told.encode())
        if jax.process_count() > 1:
            # JAX listens to SIGTERM, and hands it on to the other processes.
            os.kill(os.getpid(), signal.SIGTERM)
