"""Families of odd video files, drawn by the ffmpeg program: name of a file -> how to draw it."""

import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from video_files import ffmpeg, write_numbered

Draw = Callable[[Path], None]

_X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "12", "-preset", "ultrafast")
CODECS = {
    "h264": (*_X264, "-bf", "0"),
    "h264b": (*_X264, "-bf", "2"),
    "hevc": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:bframes=3"),
    "mpeg4": ("-c:v", "mpeg4", "-q:v", "3"),
    "mpeg4b": ("-c:v", "mpeg4", "-q:v", "3", "-bf", "2"),
    "mpeg2": ("-c:v", "mpeg2video", "-q:v", "3", "-bf", "2"),
    "mpeg1": ("-c:v", "mpeg1video", "-q:v", "3"),
    "mjpeg": ("-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p"),
    "vp8": ("-c:v", "libvpx", "-b:v", "1M", "-deadline", "realtime", "-auto-alt-ref", "1"),
    "vp9": ("-c:v", "libvpx-vp9", "-b:v", "1M", "-deadline", "realtime", "-cpu-used", "8"),
    "ffv1": ("-c:v", "ffv1"),
    "huffyuv": ("-c:v", "huffyuv"),
    "prores": ("-c:v", "prores", "-pix_fmt", "yuv422p10le"),
    "theora": ("-c:v", "libtheora", "-q:v", "8"),
    "flv1": ("-c:v", "flv", "-q:v", "3"),
    "wmv2": ("-c:v", "wmv2", "-q:v", "3"),
    "gif": ("-c:v", "gif"),
    "raw": ("-c:v", "rawvideo", "-pix_fmt", "yuv420p"),
}
# Container -> its codecs, and the codec of its sound where it has any.
CONTAINERS = {
    "mp4": (("h264", "h264b", "hevc", "mpeg4b", "vp9"), "aac"),
    "mov": (("h264b", "mjpeg", "prores"), "aac"),
    "mkv": (("h264b", "hevc", "mpeg4b", "vp9", "ffv1", "mpeg2"), "aac"),
    "webm": (("vp8", "vp9"), "libopus"),
    "avi": (("h264b", "mpeg4", "mpeg4b", "mjpeg", "huffyuv", "raw"), "mp3"),
    "ts": (("h264b", "hevc", "mpeg2"), "aac"),
    "mpg": (("mpeg1", "mpeg2"), "mp2"),
    "flv": (("flv1", "h264b"), "aac"),
    "wmv": (("wmv2",), "wmav2"),
    "ogv": (("theora",), "libvorbis"),
    "nut": (("mpeg4b", "ffv1"), "mp2"),
    "gif": (("gif",), None),
}
RATES = {"mpg": ("25", "30000/1001"), "gif": ("25", "10")}
SEVERAL_RATES = ("25", "30000/1001", "12")
_SOUND = ("-f", "lavfi", "-t", "4", "-i", "sine", "-map", "0:v", "-map", "1:a", "-c:a")


def _encoded(
    path: Path,
    codec: str,
    sound: str | None,
    rate: str = "25",
    more: tuple[str, ...] = (),
    count: int = 50,
) -> None:
    heard = (*_SOUND, sound) if sound else ()
    write_numbered(path, (*heard, *CODECS[codec], *more), rate=rate, count=count)


def plain() -> Iterator[tuple[str, Draw]]:
    """Containers x codecs x frame rates, with and without sound."""
    for container, (codecs, sound) in CONTAINERS.items():
        for codec in codecs:
            for rate in RATES.get(container, SEVERAL_RATES):
                for heard in (None, sound) if sound else (None,):
                    name = (
                        f"{codec}-{rate.split('/')[0]}-{'sound' if heard else 'mute'}.{container}"
                    )
                    yield name, partial(_encoded, codec=codec, sound=heard, rate=rate)
    fragments = ("-movflags", "frag_keyframe+empty_moov")
    yield "fragments.mp4", partial(_encoded, codec="h264b", sound=None, more=fragments)
    yield "fragments-sound.mp4", partial(_encoded, codec="h264b", sound="aac", more=fragments)
    yield "stream.h264", partial(_encoded, codec="h264", sound=None)
    yield "stream.m2v", partial(_encoded, codec="mpeg2", sound=None)
    yield "stream.mjpeg", partial(_encoded, codec="mjpeg", sound=None)


_IRREGULAR = {
    "dropped": "select='not(mod(n,5))+eq(mod(n,7),3)'",
    "stays": "select='lt(n,20)+eq(n,49)'",
    "growing": "setpts='N*N*N/40/TB/25/10'",
    "late": "setpts='PTS+7/TB'",
    "repeated": "setpts='floor(N/2)*2/25/TB'",
}


def irregular() -> Iterator[tuple[str, Draw]]:
    """Frames that stay, are missing, come late, or share a time."""
    chosen = ("mp4", "mov", "mkv", "webm", "avi", "ts", "flv", "nut", "gif")
    for container in chosen:
        # In AVI, nothing tells when the last of reordered frames are shown.
        codec = "mpeg4" if container == "avi" else CONTAINERS[container][0][0]
        for kind, chain in _IRREGULAR.items():
            # Muxers with one clock for times of decoding refuse what the others take.
            if kind == "repeated" and container not in ("mkv", "webm"):
                continue
            more = ("-vf", chain, "-fps_mode", "passthrough" if kind == "repeated" else "vfr")
            if container == "mkv" or container == "mp4":
                for heard in (None, "aac"):
                    name = f"{kind}-{'sound' if heard else 'mute'}.{container}"
                    yield name, partial(_encoded, codec=codec, sound=heard, more=more)
            else:
                yield f"{kind}.{container}", partial(_encoded, codec=codec, sound=None, more=more)


def _trimmed(path: Path, codec: str, sound: str | None, start: str, length: str) -> None:
    whole = path.with_name(f"whole-{path.name}")
    _encoded(whole, codec, sound)
    ffmpeg("-ss", start, "-t", length, "-i", whole, "-c", "copy", path)


def edit_lists() -> Iterator[tuple[str, Draw]]:
    """Cuts without encoding anew: an edit list, or its like, hides what precedes the cut."""
    for container, sound in (("mp4", "aac"), ("mov", "aac"), ("mkv", "aac"), ("ts", "aac")):
        for codec in ("h264", "h264b") if container in ("mp4", "mov") else ("h264b",):
            for start, length in (("0.3", "1.2"), ("0.97", "0.6"), ("1.3", "5")):
                for heard in (None, sound):
                    name = f"{codec}-{start}-{'sound' if heard else 'mute'}.{container}"
                    yield (
                        name,
                        partial(_trimmed, codec=codec, sound=heard, start=start, length=length),
                    )


_ONE = 1 << 16
_SLANT = round(_ONE * 2**-0.5)
MATRICES = {
    "upright": (_ONE, 0, 0, _ONE),
    "turned-90": (0, _ONE, -_ONE, 0),
    "turned-180": (-_ONE, 0, 0, -_ONE),
    "turned-270": (0, -_ONE, _ONE, 0),
    "left-right": (-_ONE, 0, 0, _ONE),
    "top-bottom": (_ONE, 0, 0, -_ONE),
    "transposed": (0, _ONE, _ONE, 0),
    "anti-transposed": (0, -_ONE, -_ONE, 0),
    "doubled": (2 * _ONE, 0, 0, 2 * _ONE),
    "nothing": (0, 0, 0, 0),
}


def with_matrix(data: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """An MP4 whose first track has another display matrix, in 16.16 fixed point."""
    a, b, c, d = matrix
    # In the box `tkhd`, version 0, the matrix follows 40 bytes after the name.
    at = data.index(b"tkhd") + 4 + 40
    return data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :]


def _turned(path: Path, matrix: tuple[int, int, int, int], codec: str) -> None:
    _encoded(path, codec, None, count=8)
    path.write_bytes(with_matrix(path.read_bytes(), matrix))


def matrices() -> Iterator[tuple[str, Draw]]:
    """The eight display matrices, and those that turn nothing."""
    for name, matrix in MATRICES.items():
        for container, codec in (("mp4", "h264"), ("mov", "mjpeg")):
            yield f"{name}.{container}", partial(_turned, matrix=matrix, codec=codec)


def _two_videos(path: Path, sizes: tuple[tuple[int, int], ...], default: int | None) -> None:
    parts = []
    for index, size in enumerate(sizes):
        part = path.with_name(f"{path.stem}-{index}.mp4")
        write_numbered(part, CODECS["h264"], size=size, count=20 + 7 * index)
        parts += ["-i", part]
    maps = [word for index in range(len(sizes)) for word in ("-map", index)]
    marks = ["-disposition:v", 0]
    marks += [f"-disposition:v:{default}", "default"] if default is not None else []
    ffmpeg(*parts, *maps, "-c", "copy", *marks, path)


def several_streams() -> Iterator[tuple[str, Draw]]:
    """Two videos in a file: of other sizes, in other orders, one or none marked as default."""
    small, large = (96, 64), (192, 128)
    for container in ("mp4", "mkv", "ts"):
        for order, sizes in (("rising", (small, large)), ("falling", (large, small))):
            for default in (None, 0, 1):
                name = f"{order}-default-{default}.{container}"
                yield name, partial(_two_videos, sizes=sizes, default=default)
        yield f"alike.{container}", partial(_two_videos, sizes=(small, small), default=None)


def _with_cover(path: Path, first: bool) -> None:
    video, cover = path.with_name(f"{path.stem}-video.mp4"), path.with_name(f"{path.stem}.jpg")
    write_numbered(video, CODECS["h264"], count=20)
    ffmpeg("-f", "lavfi", "-i", "color=red:s=640x480", "-frames:v", 1, cover)
    if path.suffix == ".mkv":
        ffmpeg("-i", video, "-c", "copy", "-attach", cover, "-metadata:s:1", "mimetype=image/jpeg",
               path)  # fmt: skip
        return
    maps, at = (("1", "0"), 0) if first else (("0", "1"), 1)
    ffmpeg("-i", video, "-i", cover, "-map", maps[0], "-map", maps[1], "-c", "copy",
           f"-disposition:v:{at}", "attached_pic", path)  # fmt: skip


def covers() -> Iterator[tuple[str, Draw]]:
    """A larger picture that belongs to the file, beside the video."""
    for container in ("mp4", "mkv", "m4v"):
        for first in (False, True):
            yield (
                f"cover-{'first' if first else 'last'}.{container}",
                partial(_with_cover, first=first),
            )


def _joined(path: Path, codec: str, sizes: tuple[tuple[int, int], ...], shift: str) -> None:
    data = b""
    for index, size in enumerate(sizes):
        part = path.with_name(f"{path.stem}-{index}{path.suffix}")
        write_numbered(part, CODECS[codec], size=size, count=20)
        if float(shift):
            moved = part.with_name(f"moved-{part.name}")
            ffmpeg("-i", part, "-c", "copy", "-output_ts_offset", float(shift) * index, moved)
            part = moved
        data += part.read_bytes()
    path.write_bytes(data)


def joined() -> Iterator[tuple[str, Draw]]:
    """Streams one after the other in a file: times start again or jump, sizes change."""
    small, large = (96, 64), (192, 128)
    for container, codec in (("ts", "h264"), ("ts", "mpeg2"), ("ts", "h264b"), ("h264", "h264")):
        for kind, sizes in (
            ("same", (small, small)),
            ("smaller", (large, small)),
            ("larger", (small, large)),
            ("there-and-back", (small, large, small)),
        ):
            # A jump that ffmpeg keeps, one that it joins, and a start again.
            for shift in ("0", "5", "500") if container == "ts" and kind != "larger" else ("0",):
                yield (
                    f"{codec}-{kind}-{shift}.{container}",
                    partial(_joined, codec=codec, sizes=sizes, shift=shift),
                )


def _started_at(path: Path, codec: str, sound: str | None, at: str) -> None:
    _encoded(path, codec, sound, more=("-output_ts_offset", at))


def starts() -> Iterator[tuple[str, Draw]]:
    """Times that start late, or reach the end of a transport stream's clock on the way."""
    for container, codec, sound in (("ts", "h264b", "aac"), ("ts", "mpeg2", "mp2"),
                                    ("mpg", "mpeg2", "mp2")):  # fmt: skip
        for at in ("3600", "95442.2", "95442.9"):
            for heard in (None, sound):
                name = f"{codec}-{at}-{'sound' if heard else 'mute'}.{container}"
                yield name, partial(_started_at, codec=codec, sound=heard, at=at)
    for container in ("mkv", "mp4", "flv", "nut"):
        codec = CONTAINERS[container][0][0]
        yield f"{codec}-3600.{container}", partial(_started_at, codec=codec, sound=None, at="3600")


def _tagged(path: Path, more: tuple[str, ...]) -> None:
    colours = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=5:d=1,gblur=6")
    ffmpeg(*colours, *CODECS["h264"], "-qp", 4, *more, path)


def colours() -> Iterator[tuple[str, Draw]]:
    """Matrices, ranges and shapes of pixels."""
    for matrix in ("bt709", "smpte170m", "bt470bg", "smpte240m", "fcc", "bt2020nc"):
        for span in ("tv", "pc"):
            scale = f"scale=out_color_matrix={matrix}:out_range={span}"
            scale = "null" if matrix in ("smpte240m", "fcc") else scale
            more = ("-vf", scale, "-colorspace", matrix, "-color_range", span)
            yield f"{matrix}-{span}.mp4", partial(_tagged, more=more)
    for shape in ("16/11", "1/2"):
        yield f"shape-{shape[:1]}.mp4", partial(_tagged, more=("-vf", f"setsar={shape}"))
    for form in ("yuv444p", "yuv422p", "yuv420p10le", "gray"):
        yield f"{form}.mkv", partial(_tagged, more=("-pix_fmt", form))


FAMILIES: dict[str, Callable[[], Iterator[tuple[str, Draw]]]] = {
    "plain": plain,
    "irregular": irregular,
    "edit_lists": edit_lists,
    "matrices": matrices,
    "several_streams": several_streams,
    "covers": covers,
    "joined": joined,
    "starts": starts,
    "colours": colours,
}


FASTSTART = ("-movflags", "+faststart")


def cut_files() -> Iterator[tuple[str, Draw]]:
    """Files that are to be cut: of forms that announce their length at the start."""
    for container in ("mp4", "mov", "mkv", "webm", "avi", "flv", "wmv"):
        codecs, sound = CONTAINERS[container]
        more = FASTSTART if container in ("mp4", "mov") else ()
        for heard in (None, sound):
            yield (
                f"{'sound' if heard else 'mute'}.{container}",
                partial(_encoded, codec=codecs[-1], sound=heard, more=more, count=100),
            )


def cut(path: Path, share: float) -> Path:
    """The first part of a file."""
    data = path.read_bytes()
    short = path.with_name(f"cut-{path.name}")
    short.write_bytes(data[: round(len(data) * share)])
    return short
