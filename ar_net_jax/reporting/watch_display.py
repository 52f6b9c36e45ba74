"""What `arnet watch` shows in the terminal while a video is on its way, and after it."""

import contextlib
import time
from collections import deque
from collections.abc import Callable

import rich.console
import rich.live
import rich.table
import rich.text

from ar_net_jax.data.feed import Feed, Lost
from ar_net_jax.inference.predict import DecidedFrame, PredictedClass, PredictedWindow
from ar_net_jax.inference.watch import Watcher
from ar_net_jax.reporting.console import standard_output

# Seconds over which frames a second are averaged, and between two pictures of the panel.
_RATE_SECONDS = 3.0
_REFRESH_SECONDS = 0.25


class Rate:
    """How many events there were a second, over the last few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts with none.

        Args:
            clock: seconds since some fixed moment.
        """
        self._clock, self._begun = clock, clock()
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, count: int) -> None:
        """Takes how many there were so far, since the beginning."""
        now = self._clock()
        self._seen.append((now, count))
        # One that is older stays, to measure from.
        while len(self._seen) > 2 and self._seen[1][0] < now - _RATE_SECONDS:
            self._seen.popleft()

    def __call__(self) -> float:
        """Events per second; 0 before there is anything to measure."""
        if len(self._seen) < 2:
            return 0.0
        (start, before), (end, now) = self._seen[0], self._seen[-1]
        return (now - before) / (end - start) if end > start else 0.0


class WatchDisplay:
    """A panel in a terminal, and a line for each window; of a pipe the lines alone.

    A context manager.
    """

    def __init__(
        self,
        name: str,
        feed: Feed,
        watcher: Watcher,
        console: rich.console.Console | None = None,
    ) -> None:
        """Shows nothing yet.

        Args:
            name: of the source.
            feed: where frames come from.
            watcher: that they go to.
            console: where to; the terminal by default.
        """
        self._name, self._feed, self._watcher = name, feed, watcher
        self._console = console or standard_output()
        self._came, self._taken = Rate(), Rate()
        self._count = 0
        self._stack = contextlib.ExitStack()
        self._live: rich.live.Live | None = None
        self._drawn = -_REFRESH_SECONDS

    def taken(self) -> None:
        """To be called after every frame that was taken."""
        self._count += 1
        self._came.update(self._feed.received)
        self._taken.update(self._count)
        if self._live is not None and time.monotonic() > self._drawn + _REFRESH_SECONDS:
            self._live.update(self._panel(), refresh=True)
            self._drawn = time.monotonic()

    def finished(self, window: PredictedWindow) -> None:
        """Prints a window that is over."""
        line = rich.text.Text(f"{_clock(window.start)} to {_clock(window.end)}  ")
        line.append(_label(window.classes) or "nothing looked at", style="bold")
        left_out = sum(frame.left_out for frame in window.frames)
        line.append(
            f"  {window.gflops:.3g} GFLOPs, {left_out} of {len(window.frames)} frames left out"
        )
        self._console.print(line)

    def lost(self, event: Lost) -> None:
        """Prints that a stream broke off."""
        self._console.print(
            rich.text.Text(
                f"{self._name}: lost ({event.reason}); trying again in {event.wait:g} s "
                f"({event.attempt} of {event.attempts})",
                style="yellow",
            )
        )

    def told_end(self) -> str:
        """What there was in all, in a line."""
        feed, watcher = self._feed, self._watcher
        return (
            f"{feed.received} frames, {feed.dropped} dropped; the model was shown {watcher.frames} "
            f"for {watcher.gflops:.4g} GFLOPs ({watcher.gflops_convention}), "
            f"{watcher.skipped_work:.0%} less than in the costliest decision"
        )

    def _panel(self) -> rich.table.Table:
        feed, watcher = self._feed, self._watcher
        window = watcher.window
        rows: dict[str, str | rich.text.Text] = {
            "source": f"{self._name}, {self._came():.1f} frames/s",
            "label": _label(window.classes) or "nothing looked at yet",
            "decisions": _strip(window.frames, watcher.costliest),
            "last": window.frames[-1].description if window.frames else "",
            "taken": f"{self._taken():.1f} frames/s",
            "dropped": f"{feed.dropped} of {feed.received} frames",
            "skipped work": f"{watcher.skipped_work:.0%} of {watcher.gflops_at_most:.4g} GFLOPs "
            f"({watcher.gflops_convention})",
        }
        table = rich.table.Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="dim")
        table.add_column(no_wrap=True, overflow="ellipsis")
        for title, value in rows.items():
            table.add_row(title, value if isinstance(value, rich.text.Text) else _plain(value))
        return table

    def __enter__(self) -> "WatchDisplay":
        if self._console.is_terminal:
            self._live = self._stack.enter_context(
                rich.live.Live(console=self._console, auto_refresh=False, transient=True)
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._live = None
        self._stack.close()


def _plain(text: str) -> rich.text.Text:
    """A name of a file or class, in which brackets are no markup."""
    return rich.text.Text(text)


def _label(classes: tuple[PredictedClass, ...]) -> str:
    """The first two classes; empty where there are none."""
    return ", ".join(f"{entry.name} {entry.probability:.0%}" for entry in classes[:2])


def _strip(frames: tuple[DecidedFrame, ...], costliest: float) -> rich.text.Text:
    """A bar for every decision, as high as it is costly; a dot for a frame that is left out."""
    strip = rich.text.Text()
    for frame in frames:
        if frame.left_out:
            strip.append("·", style="dim")
        else:
            share = min(frame.gflops / costliest, 1.0)
            strip.append("▁▂▃▄▅▆▇█"[round(share * 7)], style="yellow")
    return strip


def _clock(seconds: float) -> str:
    """A time as `1:02:03.4`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    told = f"{minutes:02d}:{rest:04.1f}"
    return f"{hours}:{told}" if hours else told
