"""A long video in windows of time, each sampled as evaluation samples a whole video."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from ar_net_jax.data.augment import eval_crop
from ar_net_jax.data.decoding.faults import naming
from ar_net_jax.data.decoding.reader import DecodedFrame, VideoReader
from ar_net_jax.data.video import time_slack

# In seconds: what is left of a video after a window and is shorter than this makes none of its own.
_REST = 0.05


@dataclass(frozen=True)
class Window:
    """A stretch of a video, sampled.

    Attributes:
        start: seconds since the video's first frame.
        end: likewise.
        frames: uint8 [T, S, S, 3], RGB.
        times: float64 [T], seconds since the video's first frame.
    """

    start: float
    end: float
    frames: UInt8[np.ndarray, "t s s 3"]
    times: Float64[np.ndarray, " t"]


def plan_windows(seconds: float, length: float, stride: float) -> list[tuple[float, float]]:
    """Start and end of every window; the last ends with the video and may be shorter.

    Args:
        seconds: that the video lasts.
        length: of a window in seconds, above 0.
        stride: seconds from the start of a window to that of the next, above 0.

    >>> plan_windows(70, 30, 20)
    [(0, 30), (20, 50), (40, 70)]
    >>> plan_windows(8, 30, 10)
    [(0, 8)]
    """
    windows, number = [], 0
    while True:
        start = number * stride
        end = start + length if start + length < seconds - _REST else seconds
        windows.append((start, end))
        number += 1
        if end == seconds or number * stride >= seconds - _REST:
            return windows


def middle_times(start: float, end: float, num_frames: int) -> Float64[np.ndarray, " n"]:
    """The middle of each of `num_frames` equal parts of a stretch of time, float64 [n].

    >>> middle_times(10, 14, 4).tolist()
    [10.5, 11.5, 12.5, 13.5]
    """
    return start + (end - start) * (np.arange(num_frames) + 0.5) / num_frames


def _seconds(path: str | Path) -> float:
    """How long a video lasts, by its packets alone."""
    with naming(path), contextlib.closing(VideoReader(path)) as reader:
        for _ in reader.packets():
            pass
        return reader.seconds


@dataclass
class _Open:
    """A window that is being filled."""

    start: float
    end: float
    wanted: np.ndarray
    frames: list[np.ndarray] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def waits_for(self, until: float) -> bool:
        """Whether it wants another frame at a time before `until`."""
        return len(self.frames) < len(self.wanted) and self.wanted[len(self.frames)] < until

    def close(self) -> Window:
        return Window(self.start, self.end, np.stack(self.frames), np.asarray(self.times))


def read_windows(
    path: str | Path, *, length: float, stride: float, num_frames: int = 16, size: int = 224
) -> Iterator[Window]:
    """Reads a video once, window by window; in memory are only those that are under way.

    Each window gives the frames shown in the middle of its `num_frames` equal parts, which at a
    constant frame rate are those that `read_video` takes of a video that is so long. Where it has
    fewer frames than that, some come several times.

    Args:
        path: a file that FFmpeg reads.
        length: of a window in seconds.
        stride: seconds from the start of a window to that of the next.
        num_frames: T, frames to take of each window.
        size: S, side of the square frames, as of `read_video`.

    Yields:
        The windows of `plan_windows`, in order.

    Raises:
        UserError: the file is missing, does not decode, is empty, damaged or cut short.
    """
    plan = [
        _Open(start, end, middle_times(start, end, num_frames))
        for start, end in plan_windows(_seconds(path), length, stride)
    ]
    with naming(path), contextlib.closing(VideoReader(path, threads=True)) as reader:
        slack, shown = time_slack(reader), None
        for frame in reader.frames():
            if shown is not None:
                yield from _show(plan, shown, frame.time - slack, size)
            shown = frame
        if shown is not None:
            yield from _show(plan, shown, math.inf, size)


def _show(plan: list[_Open], frame: DecodedFrame, until: float, size: int) -> Iterator[Window]:
    """Gives a frame to the windows that want one before `until`; those that are full are taken."""
    picture: np.ndarray | None = None
    for window in plan:
        if window.start >= until:
            break  # They are sorted.
        while window.waits_for(until):
            if picture is None:
                picture = eval_crop(Image.fromarray(frame.pixels()), size)
            window.frames.append(picture)
            window.times.append(frame.time)
    while plan and len(plan[0].frames) == len(plan[0].wanted):
        yield plan.pop(0).close()
