"""Writes a video of pictures that come with their times, by PyAV."""

import types
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ar_net_jax.errors import UserError

# By suffix, FFmpeg's name of the container. All of them hold H.264 and a time for every frame.
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_TICKS_PER_SECOND = 90_000
# Between two pictures that can be decoded by themselves.
_KEY_SECONDS = 2


def container_of(flag: str, path: str | Path) -> str:
    """FFmpeg's name of the container that a path's suffix asks for.

    Args:
        flag: that the path was given by, for the message.
        path: of the file to write.

    Raises:
        UserError: nothing is written with such a suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        raise UserError(f"{flag}={path}: give a name that ends in {', '.join(CONTAINERS)}")
    return CONTAINERS[suffix]


class VideoFile:
    """A video that is being written as H.264; a context manager, closed on the way out."""

    def __init__(
        self,
        path: str | Path,
        container: str,
        size: tuple[int, int],
        rate: float,
        *,
        growing: bool = False,
    ) -> None:
        """Opens the file.

        Args:
            path: of the file; an earlier one is replaced.
            container: from `container_of`.
            size: (width, height) of the pictures, both even.
            rate: frames per second, about; each frame's own time is what counts.
            growing: write it so that what is there can be played at any time, and after a kill.

        Raises:
            OSError: it cannot be written.
        """
        options = {}
        if growing:
            # Parts that are whole by themselves, each written out at once.
            options = {"flush_packets": "1"}
            if container != "matroska":  # Which is made of such parts anyway.
                options["movflags"] = "frag_keyframe+empty_moov+default_base_moof"
        # "file:", because a name with a colon would be taken for an address.
        self._container = av.open(f"file:{path}", "w", format=container, container_options=options)
        # Without B-frames: a growing file cannot say that what is shown begins after 0.
        codec = {"crf": "20", "preset": "veryfast", "bf": "0"}
        stream = self._container.add_stream(
            "libx264", rate=Fraction(rate).limit_denominator(1001), options=codec
        )
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = max(1, round(_KEY_SECONDS * rate))
        stream.codec_context.time_base = Fraction(1, _TICKS_PER_SECOND)
        self._stream, self._convert, self._last = stream, VideoReformatter(), -1

    def write(self, pixels: np.ndarray, time: float) -> None:
        """Adds a picture.

        Args:
            pixels: RGB, uint8 [H, W, 3] of the file's size.
            time: in seconds since the start; one that is not later than the last is put behind it.
        """
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = self._convert.reformat(frame, format=self._stream.pix_fmt, threads=1)
        self._last = max(round(time * _TICKS_PER_SECOND), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS_PER_SECOND)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Writes what the encoder still holds, and the file's end."""
        self._container.mux(self._stream.encode())
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()
