"""Opens a file and chooses the stream of pictures that the ffmpeg program would."""

import os
from collections.abc import Sequence
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition

from ar_net_jax.data.decoding.faults import VideoFault
from ar_net_jax.data.decoding.opening import open_input

# FFmpeg draws text files as pictures of a terminal: nobody's video.
_TEXT_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})
# How far into the file ffmpeg looks for packets before it chooses.
_PROBED_BYTES = 5_000_000
# ffmpeg's own weights: packets seen, then marked as default, then the number of pixels.
_HAS_PACKETS, _IS_DEFAULT = 100_000_000, 5_000_000


def open_container(path: str | Path) -> InputContainer:
    """Opens a file for reading.

    Args:
        path: of a regular file, with any characters in its name.

    Raises:
        VideoFault: no such file, or a text that FFmpeg would draw.
        av.FFmpegError: FFmpeg does not know what it is.
    """
    if not Path(path).is_file():
        raise VideoFault("no such file")
    # The prefix keeps a colon in the name from being read as a protocol.
    container = open_input(f"file:{os.fspath(path)}")
    if _TEXT_FORMATS.intersection(container.format.name.split(",")):
        container.close()
        raise VideoFault("is a text, no video")
    return container


def is_cover(stream: av.VideoStream) -> bool:
    """Whether a stream is a picture that belongs to the file, such as an album's cover."""
    return bool(stream.disposition & Disposition.attached_pic)


def _pixels(stream: av.VideoStream) -> int:
    context = stream.codec_context
    return context.width * context.height if context is not None else 0


def _seen_in(path: str | Path, candidates: Sequence[int]) -> set[int]:
    """Indices of those streams that have packets near the start of the file."""
    seen: set[int] = set()
    read = 0
    with open_container(path) as container:
        for packet in container.demux():
            read += packet.size
            if packet.size:
                seen.add(packet.stream_index)
            if read > _PROBED_BYTES or seen.issuperset(candidates):
                break
    return seen.intersection(candidates)


def choose_stream(container: InputContainer, path: str | Path) -> av.VideoStream:
    """The stream that `ffmpeg -i FILE` decodes: most pixels, the default one before others.

    Cover pictures are none, wherever they stand in the file.

    Args:
        container: the opened file.
        path: of the file, to look into it a second time where several streams compete.

    Raises:
        VideoFault: there is none, or FFmpeg has no decoder for it.
    """
    videos = [stream for stream in container.streams.video if not is_cover(stream)]
    if not videos:
        cover = ", only a cover picture" if container.streams.video else ""
        raise VideoFault(f"holds no video stream{cover}")
    if len(videos) > 1:
        seen = _seen_in(path, [stream.index for stream in videos])

        def score(stream: av.VideoStream) -> int:
            default = bool(stream.disposition & Disposition.default)
            return _pixels(stream) + _HAS_PACKETS * (stream.index in seen) + _IS_DEFAULT * default

        videos.sort(key=score, reverse=True)
    if videos[0].codec_context is None:
        raise VideoFault("its codec is unknown to FFmpeg")
    return videos[0]
