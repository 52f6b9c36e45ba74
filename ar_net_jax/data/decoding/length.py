"""Whether a file is whole: what it announces at its start, against what came of it."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# From this share on, what is missing does not matter.
COMPLETE = 0.9

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER_BYTES = 1 << 16
_FLV_TAGS = frozenset({8, 9, 18})


@dataclass(frozen=True)
class Extent:
    """Where the outermost structure of a file says that it ends.

    Attributes:
        present: bytes that are there.
        announced: bytes that there should be; None where the form has no such number, or the
            writer left it open.
        broken_off: whether the file ends in the middle of its structure.
    """

    present: int
    announced: int | None
    broken_off: bool


def read_extent(path: str | Path, container: str) -> Extent:
    """Reads the outermost structure of a file: a few bytes of it.

    Args:
        path: of the file.
        container: FFmpeg's names of its form, separated by commas.
    """
    present = os.path.getsize(path)
    names = container.split(",")
    with open(path, "rb") as file:
        if "flv" in names:
            return Extent(present, None, not _ends_with_a_tag(file, present))
        if "matroska" in names:
            announced = _segment_end(file)
        elif "avi" in names:
            announced = _riff_end(file, present)
        elif "asf" in names:
            announced = _asf_size(file)
        else:
            announced = None
    return Extent(present, announced, announced is not None and present < announced)


def _vint(file: BinaryIO, *, marked: bool) -> int | None:
    """A number of variable length; None at the end of the file, or for "not known"."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big")
    if marked:
        return value
    mask = (1 << 7 * length) - 1
    return None if value & mask == mask else value & mask


def _segment_end(file: BinaryIO) -> int | None:
    if _vint(file, marked=True) != _EBML or (header := _vint(file, marked=False)) is None:
        return None
    file.seek(header, os.SEEK_CUR)
    if _vint(file, marked=True) != _SEGMENT or (size := _vint(file, marked=False)) is None:
        return None
    return file.tell() + size


def _riff_end(file: BinaryIO, present: int) -> int | None:
    """The end of the last RIFF chunk that begins in the file: large files have several."""
    at, end = 0, None
    while at < present:
        file.seek(at)
        head = file.read(8)
        # A writer that was stopped leaves 0, or all bits set.
        if len(head) < 8 or head[:4] != b"RIFF" or head[4:] in (bytes(4), b"\xff" * 4):
            break
        at += 8 + struct.unpack("<I", head[4:])[0]
        end = at
        at += at % 2
    return end


def _asf_size(file: BinaryIO) -> int | None:
    head = file.read(_ASF_HEADER_BYTES)
    at = head.find(_ASF_FILE_PROPERTIES)
    # After the object's name and size, and the file's own name.
    field = head[at + 40 : at + 48]
    return None if at < 0 or len(field) < 8 else struct.unpack("<Q", field)[0] or None


def _ends_with_a_tag(file: BinaryIO, present: int) -> bool:
    """Whether the last four bytes are the length of a tag that stands before them."""
    if present < 24:
        return False
    file.seek(present - 4)
    length = int.from_bytes(file.read(4), "big")
    if not 11 <= length <= present - 4:
        return False
    file.seek(present - 4 - length)
    head = file.read(4)
    return head[0] & 0x1F in _FLV_TAGS and int.from_bytes(head[1:], "big") + 11 == length


@dataclass(frozen=True)
class Announced:
    """What the file says of itself before its pictures are read.

    Attributes:
        extent: see `Extent`.
        packets: packets of the stream in the index, or in the header where that is all there is.
        seconds: its length, of all streams; None where unknown.
    """

    extent: Extent
    packets: int
    seconds: float | None


def shortage(announced: Announced, packets: int, end: float) -> str | None:
    """What a file that was cut short lacks; None for a whole one.

    The pictures may well end before the sound does, and the last of them may stay for long. So
    lengths in seconds count only for a file that ends in the middle of its structure.

    Args:
        announced: what the file says.
        packets: packets of the stream that came, the empty ones and the hidden ones too.
        end: seconds at which the last of them ends.
    """
    if packets < COMPLETE * announced.packets:
        return f"{packets} of {announced.packets} frames"
    if not announced.extent.broken_off:
        return None
    if announced.seconds and end < COMPLETE * announced.seconds:
        return f"{end:.1f} of {announced.seconds:.1f} seconds"
    present, whole = announced.extent.present, announced.extent.announced
    if whole is not None and present < COMPLETE * whole:
        return f"{present} of {whole} bytes"
    return None
