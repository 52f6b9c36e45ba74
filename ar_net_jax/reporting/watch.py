"""Watching: frames from a feed to a model, and what it makes of them to terminal and file."""

import contextlib
from pathlib import Path

import av

from ar_net_jax.data.feed import Feed, FeedFrame, Lost
from ar_net_jax.data.live import Source
from ar_net_jax.errors import UserError
from ar_net_jax.inference.watch import Watcher
from ar_net_jax.reporting.annotated import decision_strip
from ar_net_jax.reporting.overlay import Caption, Overlay
from ar_net_jax.reporting.video_file import VideoFile, container_of
from ar_net_jax.reporting.watch_display import WatchDisplay
from ar_net_jax.runtime.storage import check_output


def check_target(flag: str, path: str, source: Source) -> None:
    """Raises UserError if a video cannot be written at a path, or would overwrite its source."""
    container_of(flag, path)
    check_output(flag, path)
    if source.kind == "file" and Path(path).resolve() == Path(source.address).resolve():
        raise UserError(f"{flag}={path}: would be written over; give another name")


def watch(name: str, feed: Feed, watcher: Watcher, *, video: str | None = None) -> None:
    """Watches a feed to its end, and tells what there was.

    Args:
        name: of the source.
        feed: where frames come from.
        watcher: the model.
        video: file for the frames with label and decisions on them; what is there can be played at
            any time.

    Raises:
        UserError: the source is damaged, or lost and did not come back; or the file cannot be
            written.
        KeyboardInterrupt: that ended it, as is usual for a camera; the file is whole.
    """
    display = WatchDisplay(name, feed, watcher)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(display)
            file = stack.enter_context(WatchedVideo(video, feed, watcher)) if video else None
            for item in feed:
                windows = watcher.finish() if isinstance(item, Lost) else watcher.take(item)
                for window in windows:
                    display.finished(window)
                if isinstance(item, Lost):
                    display.lost(item)
                    continue
                if file is not None:
                    file.write(item)
                display.taken()
            for window in watcher.finish():
                display.finished(window)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped watching") from None
    finally:
        print(display.told_end())


class WatchedVideo:
    """A video of what is watched, with what the model makes of it; a context manager."""

    def __init__(self, path: str, feed: Feed, watcher: Watcher) -> None:
        """Writes nothing yet.

        Args:
            path: of the file.
            feed: where frames come from.
            watcher: that was shown them.
        """
        self._path, self._feed, self._watcher = path, feed, watcher
        self._overlay: Overlay | None = None
        self._file: VideoFile | None = None

    def write(self, frame: FeedFrame) -> None:
        """Adds a frame that the watcher has taken.

        Raises:
            UserError: it cannot be written.
        """
        pixels = frame.pixels()
        try:
            if self._overlay is None or self._file is None:
                container = container_of("--video", self._path)
                self._overlay = Overlay(pixels.shape[1], pixels.shape[0])
                size, rate = self._overlay.size, self._feed.rate
                self._file = VideoFile(self._path, container, size, rate, growing=True)
            self._file.write(self._overlay.draw(pixels, self._caption(frame.time)), frame.time)
        except av.FFmpegError as error:
            raise UserError(f"{self._path}: cannot be written ({error.strerror})") from None

    def _caption(self, time: float) -> Caption:
        watcher = self._watcher
        window = watcher.window
        label = "nothing looked at yet"
        if window.classes:
            label = f"{window.classes[0].name} {window.classes[0].probability:.0%}"
        decision = "not looked at yet"
        if window.frames:
            frame = window.frames[-1]
            decision = frame.description + (" (covered)" if frame.covered else "")
        cost = (
            f"{window.gflops:.3g} GFLOPs ({watcher.gflops_convention}), "
            f"{watcher.skipped_work:.0%} skipped, {self._feed.dropped} dropped"
        )
        cells, now = decision_strip(window, time, watcher.costliest)
        return Caption(label, (decision, cost), cells, now)

    def __enter__(self) -> "WatchedVideo":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
