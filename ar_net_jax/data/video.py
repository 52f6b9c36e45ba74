"""Decodes video files with PyAV: from the first frame to the last, without seeking."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Float64, UInt8
from PIL import Image

from ar_net_jax.data.augment import eval_crop
from ar_net_jax.data.sampling import eval_indices
from ar_net_jax.errors import UserError

# Containers round the times of frames; half a millisecond is below any frame's length.
_TIME_SLACK = 5e-4
# Less than this share of the frames or seconds that the header announces: cut short.
_COMPLETE = 0.9


def _bad(path: str | Path, reason: str) -> UserError:
    return UserError(f"{path}: {reason}; replace the file or remove it")


@contextlib.contextmanager
def _opened(
    path: str | Path, *, threads: bool = False
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Opens a video; whatever PyAV raises inside the block becomes a UserError with its name."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise _bad(path, "holds no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO" if threads else "SLICE"
            stream.codec_context.thread_count = 0 if threads else 1
            yield container, stream
    except (av.FFmpegError, OSError) as error:
        raise _bad(path, f"does not decode ({error.strerror})") from error


def _shortage(
    container: av.container.InputContainer, stream: av.VideoStream, count: int, end: float
) -> str | None:
    """What a cut file lacks of what its header announces; None for a whole one.

    Args:
        container: the opened file.
        stream: its pictures.
        count: frames that were decoded.
        end: seconds at which the last of them ends.
    """
    if stream.frames:
        whole = count >= _COMPLETE * stream.frames
        return None if whole else f"{count} of {stream.frames} frames"
    # The container's duration also covers sound, so it counts only for a file of pictures alone.
    # Frames times rate would not do: the rate in the header is nominal where the true one varies.
    if len(container.streams) == 1 and container.duration:
        seconds = container.duration / av.time_base
        return None if end >= _COMPLETE * seconds else f"{end:.1f} of {seconds:.1f} seconds"
    return None


def _picture(frame: av.VideoFrame, convert: VideoReformatter) -> np.ndarray:
    """RGB pixels, turned upright where the file says how it was held."""
    # By default threads are started for every frame, which costs far more than it gains.
    pixels = convert.reformat(frame, format="rgb24", threads=1).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _raw_frames(path: str | Path, *, threads: bool) -> Iterator[tuple[av.VideoFrame, float]]:
    """Decoded frames, unconverted, with seconds since the first."""
    with _opened(path, threads=threads) as (container, stream):
        rate = float(stream.average_rate or 25)
        count, start, last, end = 0, None, None, 0.0
        for frame in container.decode(stream):
            time = frame.time if frame.time is not None else count / rate
            start = time if start is None else start
            # How long a frame stays is not always told: take it for no shorter than the one before.
            end = time + max(1 / rate, 0 if last is None else time - last)
            last = time
            count += 1
            yield frame, time - start
        if count == 0:
            raise _bad(path, "holds no frames")
        if shortage := _shortage(container, stream, count, end):
            raise _bad(path, f"is cut short ({shortage})")


def decode_frames(
    path: str | Path, rate: float | None = None
) -> Iterator[tuple[np.ndarray, float]]:
    """Decodes a video at a chosen rate, on the caller's thread: to go faster, decode several.

    Args:
        path: a file that FFmpeg reads.
        rate: frames per second; the video's own frames, each at most once, on or after every tick
            of 1 / rate seconds. None gives every frame.

    Yields:
        RGB pixels, uint8 [H, W, 3], and the time in seconds since the first frame.

    Raises:
        UserError: the file is missing, does not decode, is empty or cut short.
    """
    tick, convert = 0, VideoReformatter()
    for frame, time in _raw_frames(path, threads=False):
        if rate is not None:
            if time < tick / rate - _TIME_SLACK:
                continue
            tick = int((time + _TIME_SLACK) * rate) + 1
        yield _picture(frame, convert), time


def _count_packets(path: str | Path) -> int:
    """The number of frames as the container's packets tell it, without decoding."""
    with _opened(path) as (container, stream):
        return sum(packet.size > 0 for packet in container.demux(stream))


def _pick(
    path: str | Path, expected: int, num_frames: int, size: int
) -> tuple[int, list[np.ndarray], list[float]]:
    """Decodes once, keeping the frames that evaluation takes of a video of `expected` frames."""
    wanted = set(eval_indices(expected, num_frames).tolist())
    count = 0
    frames: list[np.ndarray] = []
    times: list[float] = []
    convert = VideoReformatter()
    for frame, time in _raw_frames(path, threads=True):
        if count in wanted:
            frames.append(eval_crop(Image.fromarray(_picture(frame, convert)), size))
            times.append(time)
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
        UserError: the file is missing, does not decode, is empty or cut short.
    """
    expected = max(1, _count_packets(path))
    count, frames, times = _pick(path, expected, num_frames, size)
    if count != expected:
        # Not every packet gave one frame: now that the number is known, decode again.
        expected, frames, times = _pick(path, count, num_frames, size)
    order = np.unique(eval_indices(expected, num_frames), return_inverse=True)[1]
    return np.stack(frames)[order], np.asarray(times, np.float64)[order]
