"""Reads several videos ahead of their use, in threads: FFmpeg and Pillow work side by side."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")

# Items that a reader may have ready and not delivered.
_READY = 2
_LOOK_SECONDS = 0.2  # Between two looks whether anyone still wants what is ready.


@dataclass(frozen=True)
class _End:
    """After the last item: what ended the reading, None where it is done."""

    error: Exception | None


class _Reading(Generic[Item]):
    """One source being read in a thread, and what of it is ready."""

    def __init__(self, read: Callable[[], Iterator[Item]], stopped: threading.Event) -> None:
        self._ready: queue.Queue[Item | _End] = queue.Queue(_READY)
        self._read, self._stopped = read, stopped
        # A daemon: nobody waits for a long file's end after Ctrl-C.
        threading.Thread(target=self._fill, daemon=True).start()

    def _fill(self) -> None:
        end = _End(None)
        try:
            for item in self._read():
                if not self._put(item):
                    return
        except Exception as error:
            end = _End(error)
        self._put(end)

    def _put(self, item: Item | _End) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=_LOOK_SECONDS)
                return True
            except queue.Full:
                pass
        return False

    def items(self) -> Iterator[Item]:
        """The items in order; what reading them raised is raised here."""
        while not isinstance(item := self._ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error


def read_ahead(
    sources: Iterable[Source], read: Callable[[Source], Iterator[Item]], jobs: int
) -> Iterator[tuple[Source, Iterator[Item]]]:
    """Reads sources side by side and gives them in their order.

    Of every source that is under way no more than a few items are held, so that memory is bounded
    by `jobs`, however long a source is.

    Args:
        sources: such as paths.
        read: gives the items of one; called in a thread.
        jobs: how many are read at once.

    Yields:
        Every source with its items, all of which are to be taken before the next source is asked
        for. What reading a source raises is raised where its items are taken.
    """
    stopped = threading.Event()
    under_way: deque[tuple[Source, _Reading[Item]]] = deque()

    def begin(source: Source) -> None:
        under_way.append((source, _Reading(lambda: read(source), stopped)))

    rest = iter(sources)
    try:
        for _, source in zip(range(jobs), rest):
            begin(source)
        while under_way:
            first, reading = under_way.popleft()
            yield first, reading.items()
            for source in rest:
                begin(source)
                break
    finally:
        stopped.set()
