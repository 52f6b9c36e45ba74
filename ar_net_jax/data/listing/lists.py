"""Lists of videos and of classes: text files as spreadsheets and editors write them."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from ar_net_jax.data.listing.names import class_name
from ar_net_jax.errors import UserError, first_few

# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Not `str.splitlines`, which also splits at characters that a file's name may hold.
_LINE_END = re.compile("\r\n|\r|\n")
# "0,Archery" or "1 Archery": released lists number their classes.
_NUMBERED = re.compile(r"(\d+)(?:\s*,\s*|\s+)(\S.*)")


def read_text(path: Path) -> str:
    """A list's text: UTF-8, or what its byte order mark says (UTF-8, UTF-16, UTF-32).

    Without a mark nothing else is guessed: a name that was read in the wrong encoding is another
    class, or a file that is not there.

    Raises:
        UserError: no such file, or it is in another encoding.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    mark, encoding = next(
        ((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8")
    )
    data = data[len(mark) :]
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: not {encoding.upper()} (byte 0x{data[error.start]:02x}); save "
            "the list as UTF-8: 'iconv -f WINDOWS-1252 -t UTF-8' turns a Western Windows file into "
            "it"
        ) from error
    if "\0" in text:
        raise UserError(
            f"{path}: holds zero bytes, as UTF-16 without a byte order mark does; save it as UTF-8"
        )
    return text


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list that are not blank, with their numbers, from 1; any line ends.

    Raises:
        UserError: as `read_text`.
    """
    lines = enumerate(_LINE_END.split(read_text(path)), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a comma-separated list that are not blank, with the number of their last line.

    Cells may be quoted, and hold line ends then. Empty cells at the end of a row, as spreadsheets
    leave them, are dropped.

    Raises:
        UserError: as `read_text`; a quotation without an end.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for row in reader:
            while row and not row[-1].strip():
                row.pop()
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: {error}; write a cell that begins with a quotation "
            'mark as "...", with each mark in it doubled'
        ) from error


def read_classes(path: Path, *, numbered: bool = False) -> list[str]:
    """The names of the classes, one to a line, in the order of the labels.

    Args:
        path: the list.
        numbered: whether lines may begin with the number of the class, from 0 or 1, and a comma or
            a blank; only taken off where every line has one, in order.

    Raises:
        UserError: as `read_text`; no names, or one twice.
    """
    lines = [line.strip() for _, line in read_lines(path)]
    if numbered:
        lines = _without_numbers(lines)
    names = [class_name(line) for line in lines]
    if not names:
        raise UserError(f"{path}: empty; write one class name to a line")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path}: names {first_few(twice)} twice")
    return names


def _without_numbers(lines: list[str]) -> list[str]:
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    numbers = [int(match[1]) for match in matches if match]
    if lines and numbers in (list(range(len(lines))), list(range(1, len(lines) + 1))):
        return [match[2] for match in matches if match]
    return lines
