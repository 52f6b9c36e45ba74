"""Numbered pictures, and the ffmpeg program as a writer of odd files and as the reference."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

WIDTH, HEIGHT = 96, 64
_COLUMNS, _ROWS = 3, 2

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program")


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture whose blocks, black or white, are the six lowest bits of a number.

    The lowest bit is at the top left.
    """
    bits = [(number >> bit) & 1 for bit in range(_COLUMNS * _ROWS)]
    blocks = np.array(bits, np.uint8).reshape(_ROWS, _COLUMNS) * 255
    grey = np.kron(blocks, np.ones((height // _ROWS, width // _COLUMNS), np.uint8))
    return np.repeat(grey[..., None], 3, axis=2)


def number_of(picture: np.ndarray) -> int:
    """The number in a picture made by `numbered`, of any size."""
    height, width = picture.shape[:2]
    number = 0
    for bit in range(_COLUMNS * _ROWS):
        row, column = divmod(bit, _COLUMNS)
        y, x = (2 * row + 1) * height // (2 * _ROWS), (2 * column + 1) * width // (2 * _COLUMNS)
        number |= int(picture[y - 3 : y + 4, x - 3 : x + 4].mean() > 128) << bit
    return number


def ffmpeg(*arguments: str | Path | int) -> None:
    """Runs the program; raises where it fails."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def write_numbered(
    path: Path,
    arguments: Iterable[str | int],
    *,
    count: int = 50,
    rate: str = "25",
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> None:
    """Has ffmpeg encode the pictures of 0, 1, 2, ..."""
    raw = b"".join(numbered(number, *size).tobytes() for number in range(count))
    form = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", rate]
    command = ["ffmpeg", "-v", "error", "-y", *form, "-i", "-", *map(str, arguments), str(path)]
    subprocess.run(command, input=raw, check=True, capture_output=True)


def by_ffmpeg(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the program makes of a file by default.

    Returns:
        Its frames, uint8 [N, H, W, 3], and their times, float64 [N], in seconds since the first.
    """
    shown = "-fps_mode passthrough -an -sn -vf showinfo -pix_fmt rgb24 -f rawvideo -".split()
    command = ["ffmpeg", "-hide_banner", "-nostdin", "-i", str(path), *shown]
    done = subprocess.run(command, capture_output=True)
    log = done.stderr.decode(errors="replace")
    width, height = re.findall(r"rawvideo[^\n]*?, (\d+)x(\d+)", log)[-1]
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, int(height), int(width), 3)
    base = Fraction(re.findall(r"config in time_base: (\d+/\d+)", log)[0])
    ticks = [int(pts) for pts in re.findall(r" n: *\d+ pts: *(-?\d+) ", log)]
    return frames, np.array([float((tick - ticks[0]) * base) for tick in ticks])
