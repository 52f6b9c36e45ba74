"""Frames of video files, decoded by FFmpeg as the ffmpeg program decodes them.

That is: of several streams the one that it takes, upright, at the times that it gives them, all at
the size of the first. Pixels are the file's own, whatever shape it says they have.
"""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from ar_net_jax.data.augment import eval_crop
from ar_net_jax.data.decoding.faults import naming
from ar_net_jax.data.decoding.reader import VideoReader
from ar_net_jax.data.decoding.timestamps import frame_rate
from ar_net_jax.data.sampling import eval_indices

# Most containers round the times of frames to a millisecond; this is below any frame's length.
_TIME_SLACK = 5e-4


def time_slack(reader: VideoReader) -> float:
    """Seconds by which a container's rounding may have moved a frame."""
    unit, length = reader.stream.time_base or Fraction(0), 1 / frame_rate(reader.stream)
    # Where a unit is about a frame, as in AVI, times are counts of frames, and exact.
    return max(_TIME_SLACK, float(unit) / 2) if unit <= length / 2 else _TIME_SLACK


def decode_frames(
    path: str | Path, rate: float | None = None
) -> Iterator[tuple[np.ndarray, float]]:
    """Decodes a video at a chosen rate, on the caller's thread: to go faster, decode several.

    Args:
        path: a file that FFmpeg reads.
        rate: frames per second; the video's own frames, each at most once, on or after every tick
            of 1 / rate seconds. None gives every frame.

    Yields:
        RGB pixels, uint8 [H, W, 3] of one size, and the time in seconds since the first frame.

    Raises:
        UserError: the file is missing, does not decode, is empty, damaged or cut short.
    """
    tick = 0
    with naming(path), contextlib.closing(VideoReader(path)) as reader:
        slack = time_slack(reader)
        for frame in reader.frames():
            if rate is not None:
                if frame.time < tick / rate - slack:
                    continue
                tick = int((frame.time + slack) * rate) + 1
            yield frame.pixels(), frame.time


def _count_packets(path: str | Path) -> int:
    """The number of frames as the container's packets tell it, without decoding."""
    with naming(path), contextlib.closing(VideoReader(path)) as reader:
        for _ in reader.packets():
            pass
        return reader.num_packets


def _pick(
    path: str | Path, expected: int, num_frames: int, size: int
) -> tuple[int, list[np.ndarray], list[float]]:
    """Decodes once, keeping the frames that evaluation takes of a video of `expected` frames."""
    wanted = set(eval_indices(expected, num_frames).tolist())
    count = 0
    frames: list[np.ndarray] = []
    times: list[float] = []
    with naming(path), contextlib.closing(VideoReader(path, threads=True)) as reader:
        for frame in reader.frames():
            if count in wanted:
                frames.append(eval_crop(Image.fromarray(frame.pixels()), size))
                times.append(frame.time)
            count += 1
    return count, frames, times


def read_video(
    path: str | Path, num_frames: int = 16, size: int = 224
) -> tuple[UInt8[np.ndarray, "{num_frames} {size} {size} 3"], Float64[np.ndarray, " {num_frames}"]]:
    """Reads the frames of a video that evaluation would look at: `model(frames[None])`.

    Every T-th part of the file's frames gives its middle one, whatever the times between them;
    `times` tells those of a variable frame rate. Pictures are turned upright.

    Args:
        path: a file that FFmpeg reads.
        num_frames: T, frames to take, evenly over the video; a shorter video repeats its last.
        size: S, side of the square frames: short side to S * 256 / 224, then the centre.

    Returns:
        frames: uint8 [T, S, S, 3], RGB.
        times: float64 [T], seconds since the first frame.

    Raises:
        UserError: the file is missing, does not decode, is empty, damaged or cut short.
    """
    expected = max(1, _count_packets(path))
    count, frames, times = _pick(path, expected, num_frames, size)
    if count != expected:
        # Not every packet gave one frame: now that the number is known, decode again.
        expected, frames, times = _pick(path, count, num_frames, size)
    order = np.unique(eval_indices(expected, num_frames), return_inverse=True)[1]
    return np.stack(frames)[order], np.asarray(times, np.float64)[order]
