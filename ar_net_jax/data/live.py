"""Where frames come from as they are made or played: a camera, a stream, or a file."""

import contextlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from ar_net_jax.data.decoding.faults import VideoFault, reason_of
from ar_net_jax.data.decoding.opening import open_input
from ar_net_jax.data.decoding.picture import PictureConverter
from ar_net_jax.data.decoding.reader import DecodedFrame, VideoReader
from ar_net_jax.data.decoding.timestamps import Timestamps, frame_rate
from ar_net_jax.errors import UserError

# How long a stream may say nothing, when it is opened and later, before it counts as lost.
_SILENCE_SECONDS = 10.0
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_CAMERA = re.compile(r"/dev/video\d+|\d+")


@dataclass(frozen=True)
class Source:
    """What a name on the command line stands for.

    Attributes:
        name: as it was given.
        address: as FFmpeg opens it.
        kind: `file`, `stream` or `camera`.
    """

    name: str
    address: str
    kind: str


def parse_source(name: str) -> Source:
    """A file; an address such as `rtsp://...`; or a camera, `/dev/video0` or its number.

    Raises:
        UserError: it is none of these, or a camera where none can be opened.

    >>> parse_source("rtsp://door/live").kind, parse_source("0").address
    ('stream', '/dev/video0')
    """
    if _ADDRESS.match(name):
        return Source(name, name, "stream")
    if Path(name).is_file():
        return Source(name, name, "file")
    if _CAMERA.fullmatch(name):
        if not sys.platform.startswith("linux"):
            raise UserError(
                f"{name}: cameras are opened by Video4Linux, which this system does not have; "
                "serve it as a stream, by `ffmpeg`"
            )
        return Source(name, f"/dev/video{name}" if name.isdecimal() else name, "camera")
    raise UserError(
        f"{name}: no such file; give one, an address such as rtsp://HOST/PATH, or a camera such as "
        "/dev/video0"
    )


class Connection:
    """An open source: its frames, once from the first to the last.

    Attributes:
        finite: whether it has an end that is no loss: a file, here or on a server.
        rate: frames per second as the source tells them, 25 where it does not.
    """

    def __init__(self, source: Source) -> None:
        """Opens it.

        Raises:
            VideoFault: it holds no stream of pictures.
            av.FFmpegError: it cannot be reached, or FFmpeg does not know what it is.
        """
        self._reader: VideoReader | None = None
        if source.kind == "file":
            self._reader = VideoReader(source.address, threads=True)
            self._container, stream = self._reader.container, self._reader.stream
            self.finite = True
        else:
            self._container = _open(source)
            best = self._container.streams.best("video")
            if not isinstance(best, av.VideoStream) or best.codec_context is None:
                self._container.close()
                raise VideoFault("holds no stream of pictures that FFmpeg decodes")
            stream = best
            self.finite = bool(self._container.duration)
        self._stream = stream
        self.rate = float(frame_rate(stream))

    def frames(self) -> Iterator[DecodedFrame]:
        """The frames as they come; times begin at 0.

        Raises:
            VideoFault: a file is empty, damaged or cut short.
            av.FFmpegError: a stream broke off.
        """
        return self._frames_on_the_way() if self._reader is None else self._reader.frames()

    def _frames_on_the_way(self) -> Iterator[DecodedFrame]:
        times, converter = Timestamps(self._stream, self._container), PictureConverter()
        packet: Any
        for packet in self._container.demux(self._stream):
            if packet.size:
                times.correct(packet)
            # A stream is joined in its middle, and packets are lost: what does not decode passes.
            decoded: list[av.VideoFrame] = []
            with contextlib.suppress(av.InvalidDataError):
                decoded = self._stream.codec_context.decode(packet if packet.size else None)
            for frame in decoded:
                yield DecodedFrame(times.seconds(frame), frame, converter)

    def close(self) -> None:
        """Closes the source; no other thread may be reading it."""
        self._container.close()


def _open(source: Source) -> InputContainer:
    options = {"rtsp_transport": "tcp"} if source.address.startswith("rtsp") else {}
    return open_input(
        source.address,
        format="v4l2" if source.kind == "camera" else None,
        options=options,
        timeout=_SILENCE_SECONDS,
    )


def why_lost(error: Exception) -> str:
    """One line on why a source cannot be opened or broke off, without its name."""
    if isinstance(error, VideoFault):
        return str(error)
    if isinstance(error, av.ExitError):
        return f"nothing came for {_SILENCE_SECONDS:g} s"
    return getattr(error, "strerror", None) or reason_of(error)
