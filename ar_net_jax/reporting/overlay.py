"""Draws what a model makes of a video onto its pictures: text above, decisions below."""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Smaller pictures are enlarged, or the text would cover them.
_LEAST_SIDE = 240
_TEXT_SHARE = 1 / 18  # Height of a line of text, of the picture's shorter side.
_DARKENED = 0.35
_INK, _GREY, _MARK = "#ffffff", "#c8ccd2", "#ffffff"
_LEFT_OUT = (70, 74, 80)
# From the cheapest decision to the costliest.
_CHEAP, _COSTLY = np.array((96, 165, 250)), np.array((245, 158, 11))


@dataclass(frozen=True)
class Cell:
    """A decision on the strip at the bottom.

    Attributes:
        start: where it begins, as a share of the strip's length.
        cost: of the costliest decision's cost, 0 to 1; None where the frame is left out.
    """

    start: float
    cost: float | None


@dataclass(frozen=True)
class Caption:
    """What is drawn on a picture.

    Attributes:
        title: in the first line.
        lines: below it.
        cells: on the strip, in the order of time; each reaches to the next.
        now: where the picture is, as a share of the strip's length.
    """

    title: str
    lines: tuple[str, ...]
    cells: tuple[Cell, ...] = ()
    now: float = 0.0


class Overlay:
    """Draws captions on the pictures of one video.

    Attributes:
        size: (width, height) of the pictures that it gives, both even, as H.264 wants them.
    """

    def __init__(self, width: int, height: int) -> None:
        """Settles sizes.

        Args:
            width: of the pictures that it is given; others are scaled.
            height: likewise.
        """
        times = max(1, math.ceil(_LEAST_SIDE / min(width, height)))
        self.size = (times * width // 2 * 2, times * height // 2 * 2)
        self._line = max(12, round(min(self.size) * _TEXT_SHARE))
        folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
        # The widest range of scripts that a package carries which is here anyway.
        self._title = ImageFont.truetype(folder / "DejaVuSans-Bold.ttf", round(self._line * 0.8))
        self._text = ImageFont.truetype(folder / "DejaVuSans.ttf", round(self._line * 0.7))

    def draw(self, pixels: np.ndarray, caption: Caption) -> np.ndarray:
        """A picture with its caption.

        Args:
            pixels: RGB, uint8 [H, W, 3]; left as it is.
            caption: to be drawn.

        Returns:
            uint8 [height, width, 3] of `size`.
        """
        image = Image.fromarray(pixels)
        if image.size != self.size:
            image = image.resize(self.size, Image.Resampling.BICUBIC)
        else:
            image = image.copy()
        rows = 1 + len(caption.lines)
        margin = self._line // 3
        self._darken(image, (0, 0, self.size[0], rows * self._line + 2 * margin))
        draw = ImageDraw.Draw(image)
        for row, text in enumerate((caption.title, *caption.lines)):
            font, ink = (self._title, _INK) if row == 0 else (self._text, _GREY)
            fitted = _fitted(text, font, self.size[0] - 2 * margin)
            draw.text((margin, margin + row * self._line), fitted, font=font, fill=ink)
        if caption.cells:
            self._draw_strip(image, draw, caption)
        return np.asarray(image)

    @staticmethod
    def _darken(image: Image.Image, box: tuple[int, int, int, int]) -> None:
        image.paste(image.crop(box).point(lambda value: value * _DARKENED), box)

    def _draw_strip(self, image: Image.Image, draw: ImageDraw.ImageDraw, caption: Caption) -> None:
        """Decisions from left to right: the costlier, the higher and warmer; left out, flat."""
        width, height = self.size
        top = height - self._line
        self._darken(image, (0, top, width, height))
        ends = [cell.start for cell in caption.cells[1:]] + [1.0]
        for cell, end in zip(caption.cells, ends):
            left, right = round(cell.start * width), round(end * width) - 2
            share = 0.12 if cell.cost is None else 0.25 + 0.75 * cell.cost
            colour = _LEFT_OUT if cell.cost is None else _shade(cell.cost)
            box = (left, height - round(share * self._line), max(left, right), height)
            draw.rectangle(box, fill=colour)
        now = min(round(caption.now * width), width - 2)
        draw.rectangle((now, top, now + 1, height), fill=_MARK)


def _shade(cost: float) -> tuple[int, int, int]:
    red, green, blue = (int(x) for x in _CHEAP + (_COSTLY - _CHEAP) * cost)
    return red, green, blue


@functools.lru_cache(maxsize=256)
def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """A text, cut where it would be wider than `width` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
