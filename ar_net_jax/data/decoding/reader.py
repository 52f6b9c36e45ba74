"""Reads the frames of one video file from the first to the last, without seeking."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ar_net_jax.data.decoding.faults import VideoFault
from ar_net_jax.data.decoding.length import COMPLETE, Announced, read_extent, shortage
from ar_net_jax.data.decoding.picture import PictureConverter
from ar_net_jax.data.decoding.streams import choose_stream, open_container
from ar_net_jax.data.decoding.timestamps import Timestamps


@dataclass(frozen=True)
class DecodedFrame:
    """A frame that was decoded but is not converted yet.

    Attributes:
        time: seconds since the first frame.
    """

    time: float
    _frame: av.VideoFrame
    _converter: PictureConverter

    def pixels(self) -> np.ndarray:
        """RGB, uint8 [H, W, 3], upright, of the size of the video's first frame."""
        return self._converter.pixels(self._frame)


def _ticks(packet: "av.Packet[Any]") -> int | None:
    return packet.pts if packet.pts is not None else packet.dts


class VideoReader:
    """An open video file, to be read once and closed.

    Attributes:
        container: the opened file.
        stream: the pictures that are read.
        num_packets: packets of it that came so far and hold a picture to be shown.
        size: (width, height), upright; None before the first frame.
    """

    def __init__(self, path: str | Path, *, threads: bool = False) -> None:
        """Opens a file.

        Args:
            path: a file that FFmpeg reads.
            threads: decode on all cores; else on the caller's thread alone.

        Raises:
            VideoFault: no such file, or no stream to decode.
            av.FFmpegError: FFmpeg does not know what it is.
        """
        self.container = open_container(path)
        try:
            self.stream = choose_stream(self.container, path)
            self.stream.thread_type = "AUTO" if threads else "SLICE"
            self.stream.codec_context.thread_count = 0 if threads else 1
            self._announced = self._read_announced(path)
        except BaseException:
            self.container.close()
            raise
        self._base = self.stream.time_base or Fraction(0)
        self._times = Timestamps(self.stream, self.container)
        self.num_packets = 0
        self.size: tuple[int, int] | None = None
        self._came = 0
        # Of packets: in units of the stream's time base, and in seconds.
        self._first: int | None = None
        self._last = 0
        self._end_of_others = 0.0
        self._broken = 0
        self._at = 0
        self._read_error: av.InvalidDataError | None = None

    def close(self) -> None:
        """Closes the file."""
        self.container.close()

    def _read_announced(self, path: str | Path) -> Announced:
        name = self.container.format.name
        indexed = len(self.stream.index_entries)
        duration = self.container.duration
        return Announced(
            extent=read_extent(path, name),
            # IVF has no index, and nothing but this number at its start.
            packets=max(indexed, self.stream.frames if name == "ivf" else 0),
            seconds=duration / av.time_base if duration else None,
        )

    def packets(self) -> "Iterator[av.Packet[av.VideoStream]]":
        """The stream's packets, with times that run on where the file starts them again."""
        # In a file that breaks off, the sound tells how much is missing where pictures end before.
        read = self.container.streams if self._announced.extent.broken_off else (self.stream,)
        try:
            packet: Any
            for packet in self.container.demux(*read):
                # The last ones, of PyAV's own making, ask for what the decoders still hold.
                if packet.size == 0 and packet.dts is None and packet.pts is None:
                    continue
                self._at = max(self._at, packet.pos or 0)
                if packet.stream_index != self.stream.index:
                    self._note_other(packet)
                    continue
                self._times.correct(packet)
                self._came += 1
                self._note(packet)
                # Captures write an empty one for a picture that stays: a decoder would take it
                # for the end.
                if packet.size:
                    self.num_packets += not packet.is_discard
                    yield packet
        except av.InvalidDataError as error:
            # ffmpeg, too, takes this for the end; `check_whole` says whether it is near enough.
            self._read_error = error

    def _note(self, packet: "av.Packet[av.VideoStream]") -> None:
        ticks = _ticks(packet)
        if ticks is None:
            return
        self._last = max(self._last, ticks + (packet.duration or 0))
        # What an edit list hides is decoded, for the sake of what follows, and not shown.
        if not packet.is_discard:
            self._first = ticks if self._first is None else min(self._first, ticks)

    def _note_other(self, packet: "av.Packet[Any]") -> None:
        ticks = _ticks(packet)
        if ticks is not None:
            end = float((ticks + (packet.duration or 0)) * packet.time_base)
            self._end_of_others = max(self._end_of_others, end)

    @property
    def seconds(self) -> float:
        """From the first packet to be shown to the end of the last, of those that came so far."""
        return 0.0 if self._first is None else float((self._last - self._first) * self._base)

    def frames(self) -> Iterator[DecodedFrame]:
        """Decodes all frames in the order in which they are shown, then checks the length.

        Like ffmpeg, goes on past packets that do not decode, while they are few.

        Raises:
            VideoFault: there is no frame, or the file is damaged or cut short.
        """
        converter = PictureConverter()
        for frame in self._decoded(self.packets()):
            if self.size is None:
                self.size = converter.start(frame)
            yield DecodedFrame(self._times.seconds(frame), frame, converter)
        self.check_whole()

    def skim(self) -> None:
        """Decodes and converts the first frame, reads the rest undecoded, checks the length.

        Raises:
            VideoFault: there is no frame, its colours are unknown, or the file is cut short.
        """
        converter, packets = PictureConverter(), self.packets()
        for frame in self._decoded(packets):
            self.size = converter.start(frame)
            converter.pixels(frame)
            break
        for _ in packets:
            pass
        self.check_whole()

    def _decoded(self, packets: "Iterator[av.Packet[av.VideoStream]]") -> Iterator[av.VideoFrame]:
        context, begun = self.stream.codec_context, False
        for packet in packets:
            # What a recording that began in the middle cannot decode before its first key frame
            # is no damage.
            begun = begun or packet.is_keyframe
            try:
                decoded = context.decode(packet)
            except av.FFmpegError:
                self._broken += begun
                continue
            yield from decoded
        # There may be nothing left, or what is left may be broken.
        with contextlib.suppress(av.FFmpegError):
            yield from context.decode(None)

    def check_whole(self) -> None:
        """Checks, once all has been read, that the file holds what it announces.

        Raises:
            VideoFault: it holds no frames, is cut short or damaged.
        """
        if self.size is None:
            raise VideoFault("holds no frames that decode")
        if self._read_error and self._at < COMPLETE * self._announced.extent.present:
            raise self._read_error
        end = max(float(self._last * self._base), self._end_of_others)
        if lack := shortage(self._announced, self._came, end):
            raise VideoFault(f"is cut short ({lack})")
        if self._broken > (1 - COMPLETE) * self._came:
            raise VideoFault(f"is damaged ({self._broken} of {self._came} frames do not decode)")
