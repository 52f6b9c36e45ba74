"""Where in an ArrayRecord file its records lie, so that one can be read without the file's footer.

ArrayRecord's own reader begins with the footer: 64 kB, and 13 bytes more a record, which for a
video of 3,500 frames is a third of the 16 frames of a clip. So the place of every record is noted
in a file beside, 16 bytes each, of which a reader takes those that it needs.

An ArrayRecord file is a Riegeli file (github.com/google/riegeli, doc/riegeli_records_file_format):
blocks of 64 KiB, each with a header of 24 bytes that interrupts whatever it falls into, and in what
is left of them chunks, one after the other, each a header of 40 bytes and its data. With groups of
one and no compression, the data of a chunk ends with the bytes of its only record.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_BLOCK, _BLOCK_HEADER = 65536, 24
_ROOM = _BLOCK - _BLOCK_HEADER
# Hash of the header, size of the data, its hash, type and number of records, size of the records;
# and the first byte of the data, which is 0 where they are not compressed.
_CHUNK = struct.Struct("<8xQ8xQQB")
_CHUNK_HEADER = 40
_RECORDS = ord("r")
# Of a record: its first byte in the file, its length, its CRC-32.
_PLACE = np.dtype([("begin", "<u8"), ("length", "<u4"), ("checksum", "<u4")])


def find_places(path: Path, lengths: Sequence[int]) -> np.ndarray:
    """Finds the records of a file that was written with `group_size:1,uncompressed`.

    Args:
        path: of the file.
        lengths: of its records, which is compared with what the file says.

    Returns:
        Places, to be written as they are by `tobytes`; `read_place` reads one.

    Raises:
        ValueError: the file is laid out in another way.
    """
    places = np.zeros(len(lengths), _PLACE)
    found, at = 0, 0  # The latter in bytes of the file without the headers of blocks.
    with open(path, "rb") as file:
        while found < len(lengths):
            header = _read(file.fileno(), _begin(at), _CHUNK.size)
            if len(header) < _CHUNK.size:
                raise ValueError(f"{path}: ends after {found} of {len(lengths)} records")
            size, kind, length, compressed = _CHUNK.unpack(header)
            at += _CHUNK_HEADER + size
            if kind & 0xFF != _RECORDS:
                continue
            if compressed or kind >> 8 != 1 or length != lengths[found]:
                raise ValueError(f"{path}: record {found} is not where it is looked for")
            begin = _begin(at - length)
            checksum = zlib.crc32(_read(file.fileno(), begin, length))
            places[found] = (begin, length, checksum)
            found += 1
    return places


def read_record(records: int, places: int, index: int) -> bytes:
    """Reads one record.

    Args:
        records: descriptor of the ArrayRecord file.
        places: descriptor of the file of its places.
        index: of the record.

    Raises:
        ValueError: the file is cut short, or has been damaged since it was written.
        OSError: it cannot be read.
    """
    place = os.pread(places, _PLACE.itemsize, index * _PLACE.itemsize)
    if len(place) < _PLACE.itemsize:
        raise ValueError(f"the place of record {index} is missing")
    begin, length, checksum = np.frombuffer(place, _PLACE)[0].item()
    record = _read(records, begin, length)
    if zlib.crc32(record) != checksum:
        raise ValueError(f"record {index} is damaged (its checksum differs)")
    return record


def _begin(at: int) -> int:
    """Place in the file of a byte, given its place among those that are no headers of blocks."""
    block, within = divmod(at, _ROOM)
    return block * _BLOCK + _BLOCK_HEADER + within


def _read(descriptor: int, begin: int, length: int) -> bytes:
    """Reads so many bytes, without the headers of blocks between them; fewer at the file's end."""
    block, within = divmod(begin, _BLOCK)
    last = block * _ROOM + within - _BLOCK_HEADER + length - 1
    raw = os.pread(descriptor, _begin(last) + 1 - begin, begin)
    if within + len(raw) <= _BLOCK:
        return raw
    first = _BLOCK - within
    rest = range(first + _BLOCK_HEADER, len(raw), _BLOCK)
    return raw[:first] + b"".join(raw[start : start + _ROOM] for start in rest)
