"""Notice that the machine is about to be taken away: SIGTERM, on one process or on all at once."""

import itertools
import signal
import threading
import types
from collections.abc import Iterable, Iterator
from typing import Self, TypeVar

import jax
from jax.experimental import multihost_utils

Item = TypeVar("Item")

# JAX lets all processes stop at the same call by counting them, so the count goes on as long as
# the process does.
_calls = itertools.count(1)


class Interrupted(Exception):
    """The notice came in the midst of something that can be done again."""


class PreemptionNotice:
    """Tells whether the machine is to be given up; used as a context manager around training.

    One process listens to SIGTERM itself. Of several, each that gets SIGTERM tells the others
    through JAX's coordination service, and all of them see the notice at the same call.
    """

    def __init__(self) -> None:
        self._noted = False
        self._before: signal.Handlers | None = None

    def reached(self) -> bool:
        """Whether to save and stop here. All processes must call this equally often."""
        if jax.process_count() == 1:
            return self._noted
        return multihost_utils.reached_preemption_sync_point(next(_calls))

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """Hands items on, and raises `Interrupted` once the notice has come."""
        for item in items:
            if self.reached():
                raise Interrupted
            yield item

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        if jax.process_count() == 1 and main:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        self._noted = True
