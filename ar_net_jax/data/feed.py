"""Frames handed from the thread that reads a source to the one that looks at them, in time.

Between the two lie a few frames and no more. Where the second is late, the oldest are dropped.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ar_net_jax.data.decoding.faults import FAULTS
from ar_net_jax.data.decoding.reader import DecodedFrame
from ar_net_jax.data.live import Connection, Source, why_lost
from ar_net_jax.errors import UserError

# Frames that may wait: half a second of a camera's.
CAPACITY = 16
# Seconds before each try to open a lost stream again.
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
_LOOK_SECONDS = 0.2  # Between two looks of a thread that waits whether it is to end.


@dataclass(frozen=True)
class FeedFrame:
    """A frame that has come.

    Attributes:
        time: seconds since the first frame of all; it goes on where a stream was lost.
    """

    time: float
    _frame: DecodedFrame
    _source: str = ""

    def pixels(self) -> np.ndarray:
        """RGB, uint8 [H, W, 3], upright.

        Raises:
            UserError: its colours cannot be converted.
        """
        try:
            return self._frame.pixels()
        except FAULTS as error:
            raise UserError(f"{self._source}: {why_lost(error)}") from error


@dataclass(frozen=True)
class Lost:
    """Tells that a stream has broken off and will be opened again.

    Attributes:
        reason: why it broke off, or could not be opened.
        attempt: which try is next, from 1.
        attempts: how many there are.
        wait: seconds until then.
    """

    reason: str
    attempt: int
    attempts: int
    wait: float


class Feed:
    """The frames of a source; iterate once, then close. A context manager.

    A camera or stream comes at its own pace, a file is played at its own rate; what is not taken
    in time is dropped, the oldest first.

    Attributes:
        rate: frames per second as the source tells them.
        received: frames that came so far.
        dropped: frames that were thrown away because they were not taken in time.
    """

    def __init__(
        self,
        source: Source,
        *,
        fast: bool = False,
        capacity: int = CAPACITY,
        waits: Sequence[float] = WAITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the source.

        Args:
            source: from `parse_source`.
            fast: neither wait nor drop: frames come as fast as they are read and taken.
            capacity: frames that may wait to be taken.
            waits: seconds before each try to open a lost stream again.
            clock: seconds since some fixed moment.

        Raises:
            UserError: it cannot be opened.
        """
        self._source, self._fast, self._capacity = source, fast, capacity
        self._waits, self._clock = tuple(waits), clock
        try:
            self._connection = Connection(source)
        except FAULTS as error:
            raise UserError(f"{source.name}: {why_lost(error)}") from error
        self.rate = self._connection.rate
        self.received = self.dropped = 0
        self._ready: deque[FeedFrame | Lost] = deque()
        self._changed, self._stopped = threading.Condition(), threading.Event()
        self._failure: Exception | None = None
        self._ended = False
        # A daemon: a camera that says nothing does not keep the program from ending.
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __iter__(self) -> Iterator[FeedFrame | Lost]:
        """Frames in order, and a `Lost` before each try to open a stream again.

        Raises:
            UserError: a stream is lost and did not come back, or a file is damaged.
        """
        self._thread.start()
        while True:
            with self._changed:
                while not self._ready and not self._ended:
                    self._changed.wait(_LOOK_SECONDS)
                if not self._ready:
                    break
                item = self._ready.popleft()
                self._changed.notify_all()
            yield item
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Ends the reading."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(1.0)

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # What follows runs in the thread that reads.

    def _run(self) -> None:
        try:
            self._play_until_the_end()
        except Exception as error:
            self._failure = error
        finally:
            self._connection.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _play_until_the_end(self) -> None:
        begun, offset, tries = self._clock(), 0.0, 0
        while not self._stopped.is_set():
            before = self.received
            reason = self._play(offset)
            if reason is None:
                return
            tries = self._open_again(reason, 0 if self.received > before else tries)
            # A stream that was lost goes on at the time that has passed meanwhile.
            offset = self._clock() - begun

    def _open_again(self, reason: str, tries: int) -> int:
        """Opens a lost stream again, or waits until it is to end.

        Args:
            reason: why it was lost.
            tries: how often that was tried since the last frame.

        Returns:
            The tries, those of this call included.
        """
        self._connection.close()  # First: a camera can be opened once at a time.
        for attempt in range(tries, len(self._waits)):
            self._put(Lost(reason, attempt + 1, len(self._waits), self._waits[attempt]))
            if self._stopped.wait(self._waits[attempt]):
                return attempt
            try:
                self._connection = Connection(self._source)
                return attempt + 1
            except FAULTS as error:
                reason = why_lost(error)
        raise UserError(
            f"{self._source.name}: lost ({reason}), and not back after {len(self._waits)} tries"
        )

    def _play(self, offset: float) -> str | None:
        """Plays what is open; returns why it was lost, None where it has come to its end."""
        connection, begun = self._connection, self._clock()
        try:
            for frame in connection.frames():
                if connection.finite and not self._fast:
                    self._stopped.wait(max(0.0, begun + frame.time - self._clock()))
                if self._stopped.is_set():
                    return None
                self.received += 1
                self._put(FeedFrame(offset + frame.time, frame, self._source.name))
        except FAULTS as error:
            if connection.finite:
                raise UserError(f"{self._source.name}: {why_lost(error)}") from error
            return why_lost(error)
        return None if connection.finite else "it ended"

    def _put(self, item: FeedFrame | Lost) -> None:
        with self._changed:
            waiting = [i for i, other in enumerate(self._ready) if isinstance(other, FeedFrame)]
            if isinstance(item, FeedFrame) and len(waiting) >= self._capacity:
                if self._fast:
                    while len(self._ready) >= self._capacity and not self._stopped.is_set():
                        self._changed.wait(_LOOK_SECONDS)
                else:
                    del self._ready[waiting[0]]
                    self.dropped += 1
            self._ready.append(item)
            self._changed.notify_all()
