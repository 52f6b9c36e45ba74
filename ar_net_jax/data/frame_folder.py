"""Data sets that come as folders of frames with a list per split, as the released AR-Net has."""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ar_net_jax.data.augment import shrink_short_side
from ar_net_jax.data.builder import encode_jpeg
from ar_net_jax.errors import UserError, first_few, first_line

_JPEG_END = b"\xff\xd9"
_COUNT_SLACK = 0.02
_FRAME = re.compile(r"(.*?)(\d+)(\.jpe?g|\.png)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Frames:
    """The frames of a folder in order.

    Attributes:
        folder: that they lie in.
        pattern: format of a file's name, given the number.
        first: number of the first frame.
        count: number of frames.
    """

    folder: Path
    pattern: str
    first: int
    count: int

    def path(self, frame: int) -> Path:
        """The file of a frame, counted from 0."""
        return self.folder / self.pattern.format(self.first + frame)


def find_frames(folder: Path, expected: str, listed: int) -> Frames:
    """How the frames of a video are called, and how many there are.

    They are called as expected, numbered from 1 or from 0, or in one other way, as `img_00000.png`.

    Args:
        folder: of the frames.
        expected: format of a file's name.
        listed: number of frames, as the list tells. As in the released code, so many are taken;
            another extraction may have given a few more (2 %, or one).

    Raises:
        UserError: no such folder, a frame is missing, there are fewer frames than listed or far
            more, or several ways to order them.
    """
    usual = Frames(folder, expected, 1, listed)
    if usual.path(listed - 1).is_file() and not usual.path(listed).exists():
        return usual
    found = _series(folder)
    ways = [found[expected]] if expected in found else list(found.values())
    if not ways:
        raise UserError(f"{folder}: holds no frames; expected {expected.format(1)} and so on")
    if len(ways) > 1:
        raise UserError(
            f"{folder}: holds several series of frames, {first_few(sorted(found))}; expected "
            f"{expected.format(1)} and so on"
        )
    (way,) = ways
    if way.count > listed + max(1, _COUNT_SLACK * listed):
        raise UserError(
            f"{folder}: holds {way.count} frames, but the list says {listed}; extract them anew "
            "at the list's rate, or correct the list"
        )
    frames = dataclasses.replace(way, first=min(way.first, 1), count=listed)
    if absent := [path for path in map(frames.path, range(listed)) if not path.is_file()]:
        raise UserError(
            f"{absent[0]}: missing ({len(absent)} of {listed} frames are); extract the frames "
            "anew, or correct the list"
        )
    return frames


def _series(folder: Path) -> dict[str, Frames]:
    """The numbered series of pictures in a folder, by the format of their names."""
    try:
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
    matches: dict[tuple[str, str], list[re.Match[str]]] = {}
    for name in names:
        if match := _FRAME.fullmatch(name):
            matches.setdefault((match[1], match[3]), []).append(match)
    series = {}
    for (prefix, suffix), members in matches.items():
        width = min(len(match[2]) for match in members)
        pattern = f"{_escaped(prefix)}{{:0{width}d}}{_escaped(suffix)}"
        first = min(int(match[2]) for match in members)
        series[pattern] = Frames(folder, pattern, first, len(members))
    return series


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def read_frame(path: Path, short_side: int | None, quality: int) -> bytes:
    """A frame as JPEG: the file as it is where it is one, and not too large.

    Args:
        path: a JPEG or PNG file.
        short_side: pixels; a larger frame is shrunk to it. None keeps every size.
        quality: of a frame that has to be compressed anew.

    Raises:
        UserError: the file is missing, cut short or no picture.
    """
    try:
        data = path.read_bytes()
        image: Image.Image = Image.open(io.BytesIO(data))
        as_it_is = image.format == "JPEG" and image.mode in ("RGB", "L")
        # Cut-short files are common after an interrupted extraction; a full check is slow.
        if image.format == "JPEG" and _JPEG_END not in data[-64:]:
            raise UserError(f"{path}: not a complete JPEG file; extract the frames anew")
        if as_it_is and (short_side is None or min(image.size) <= short_side):
            return data
        image = _as_rgb(image)
        if short_side is not None and min(image.size) > short_side:
            image = shrink_short_side(image, short_side)
        return encode_jpeg(image, quality)
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: not a picture; extract the frames anew") from error
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; extract the frames anew") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path}: {reason}; extract the frames anew") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which `convert` would cut off at 255.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
