"""What a video file holds, and what is wrong with it, without keeping any of its pictures."""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import av

from ar_net_jax.data.decoding.faults import FAULTS, reason_of
from ar_net_jax.data.decoding.reader import VideoReader
from ar_net_jax.data.decoding.streams import is_cover, open_container


@dataclass(frozen=True)
class StreamProbe:
    """One stream of a file.

    Attributes:
        index: its place in the file, from 0.
        kind: `video`, `audio`, `subtitle`, `data`, `attachment`, or `cover` for a picture that
            belongs to the file and is no video.
        codec: FFmpeg's name of it; None where FFmpeg has no decoder.
    """

    index: int
    kind: str
    codec: str | None


@dataclass(frozen=True)
class VideoProbe:
    """What a file holds.

    Attributes:
        path: of the file.
        container: FFmpeg's name of its form; None if it does not open.
        streams: all of them, in the order of the file.
        stream: index of the one that is decoded; None if there is none.
        codec: of that stream.
        size: (width, height) of the frames, upright; None if none was decoded.
        num_frames: frames that were decoded; without decoding, as the packets tell it, which is
            off for the few codecs that pack two pictures together.
        seconds: from the first frame to the end of the last.
        decoded: whether every frame was decoded, not only the first.
        fault: what is wrong, as `decode_frames` would say it, without the file's name; None if
            nothing was found.
    """

    path: Path
    container: str | None = None
    streams: tuple[StreamProbe, ...] = ()
    stream: int | None = None
    codec: str | None = None
    size: tuple[int, int] | None = None
    num_frames: int = 0
    seconds: float = 0.0
    decoded: bool = False
    fault: str | None = None


def _describe(stream: av.stream.Stream) -> StreamProbe:
    cover = isinstance(stream, av.VideoStream) and is_cover(stream)
    context = stream.codec_context
    return StreamProbe(
        stream.index, "cover" if cover else stream.type, None if context is None else context.name
    )


def probe_video(path: str | Path, *, decode: bool = False) -> VideoProbe:
    """Looks into a file; what is wrong with it is told in the result, not raised.

    Args:
        path: of the file.
        decode: every frame, as reading the video would. Otherwise the first frame is decoded and
            the packets of the others are read, which finds all but damaged pictures.

    Returns:
        What the file holds, as far as it could be read.
    """
    found = VideoProbe(Path(path), decoded=decode)
    try:
        with open_container(path) as container:
            streams = tuple(_describe(stream) for stream in container.streams)
            found = replace(found, container=container.format.name, streams=streams)
        with contextlib.closing(VideoReader(path)) as reader:
            return _read(reader, found, decode)
    except FAULTS as error:
        return replace(found, fault=reason_of(error))


def _read(reader: VideoReader, found: VideoProbe, decode: bool) -> VideoProbe:
    count, fault = 0, None
    try:
        if decode:
            for frame in reader.frames():
                if not count:
                    frame.pixels()
                count += 1
        else:
            reader.skim()
    except FAULTS as error:
        fault = reason_of(error)
    return replace(
        found,
        stream=reader.stream.index,
        codec=reader.stream.codec_context.name,
        size=reader.size,
        num_frames=count if decode else reader.num_packets,
        seconds=reader.seconds,
        fault=fault,
    )
