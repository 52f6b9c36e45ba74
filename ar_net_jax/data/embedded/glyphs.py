"""The shapes that stand for the classes of the embedded data, and the boards that carry them."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Points = list[tuple[float, float]]
Colour = tuple[int, int, int]

_OVERSAMPLE = 4
_GLYPH_SHARE = 0.70  # of the board's side
_BORDER_SHARE = 0.06


class _Pen:
    """Draws on a square whose coordinates run from -1 to 1, x to the right and y down."""

    def __init__(self, draw: ImageDraw.ImageDraw, centre: float, radius: float, colour: int):
        self._draw = draw
        self._centre = centre
        self._radius = radius
        self._colour = colour

    def _place(self, points: Points) -> Points:
        return [
            (self._centre + self._radius * x, self._centre + self._radius * y) for x, y in points
        ]

    def polygon(self, points: Points) -> None:
        self._draw.polygon(self._place(points), fill=self._colour)

    def box(self, left: float, top: float, right: float, bottom: float, fill: int = -1) -> None:
        corners = self._place([(left, top), (right, bottom)])
        self._draw.rectangle(corners, fill=self._colour if fill < 0 else fill)

    def disc(self, x: float, y: float, radius: float, fill: int = -1) -> None:
        corners = self._place([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.ellipse(corners, fill=self._colour if fill < 0 else fill)


def _ring(pen: _Pen) -> None:
    pen.disc(0, 0, 1.0)
    pen.disc(0, 0, 0.52, fill=0)


def _plus(pen: _Pen) -> None:
    pen.box(-1, -0.3, 1, 0.3)
    pen.box(-0.3, -1, 0.3, 1)


def _triangle(pen: _Pen) -> None:
    pen.polygon([(0, -1), (1, 0.9), (-1, 0.9)])


def _arrow(pen: _Pen) -> None:
    pen.polygon(
        [(-1, -0.28), (0.0, -0.28), (0.0, -0.95), (1, 0), (0.0, 0.95), (0.0, 0.28)] + [(-1, 0.28)]
    )


def _star(pen: _Pen) -> None:
    points = []
    for corner in range(10):
        radius = 1.05 if corner % 2 == 0 else 0.45
        angle = math.pi * (corner / 5 - 0.5)
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    pen.polygon(points)


def _bars(pen: _Pen) -> None:
    for top in (-1.0, -0.22, 0.56):
        pen.box(-1, top, 1, top + 0.44)


def _tee(pen: _Pen) -> None:
    pen.box(-1, -1, 1, -0.42)
    pen.box(-0.3, -0.42, 0.3, 1)


def _ell(pen: _Pen) -> None:
    pen.box(-0.85, -1, -0.2, 1)
    pen.box(-0.2, 0.4, 0.85, 1)


def _chevron(pen: _Pen) -> None:
    pen.polygon([(-1, 0.55), (0, -0.85), (1, 0.55), (0.55, 0.95), (0, 0.1), (-0.55, 0.95)])


def _frame(pen: _Pen) -> None:
    pen.box(-0.95, -0.95, 0.95, 0.95)
    pen.box(-0.5, -0.5, 0.5, 0.5, fill=0)


def _dots(pen: _Pen) -> None:
    for x in (-0.55, 0.55):
        for y in (-0.55, 0.55):
            pen.disc(x, y, 0.45)


def _hourglass(pen: _Pen) -> None:
    pen.polygon([(-1, -0.95), (1, -0.95), (0.12, 0), (1, 0.95), (-1, 0.95), (-0.12, 0)])


GLYPHS: dict[str, Callable[[_Pen], None]] = {
    "ring": _ring,
    "plus": _plus,
    "triangle": _triangle,
    "arrow": _arrow,
    "star": _star,
    "bars": _bars,
    "tee": _tee,
    "ell": _ell,
    "chevron": _chevron,
    "frame": _frame,
    "dots": _dots,
    "hourglass": _hourglass,
}
CLASS_NAMES = tuple(GLYPHS)


def _glyph_mask(name: str, side: int, blur: float) -> Image.Image:
    """Coverage of the glyph on a board of `side` pixels, mode L; `blur` is a share of the side."""
    large = side * _OVERSAMPLE
    mask = Image.new("L", (large, large), 0)
    GLYPHS[name](_Pen(ImageDraw.Draw(mask), large / 2, large * _GLYPH_SHARE / 2, 255))
    mask = mask.reduce(_OVERSAMPLE)
    if blur > 0:
        mask = mask.filter(ImageFilter.GaussianBlur(blur * side))
    return mask


def draw_board(
    name: str, side: int, *, base: Colour, glyph: Colour, border: Colour, blur: float = 0.0
) -> np.ndarray:
    """Draws a square board with a glyph in its middle.

    Args:
        name: one of `CLASS_NAMES`.
        side: side of the board in pixels.
        base: colour of the board, RGB in 0..255.
        glyph: colour of the glyph.
        border: colour of the rim.
        blur: standard deviation of the glyph's blur as a share of the side; 0 leaves it sharp.

    Returns:
        uint8 [side, side, 3].
    """
    board = Image.new("RGB", (side, side), border)
    rim = max(1, round(side * _BORDER_SHARE))
    board.paste(base, (rim, rim, side - rim, side - rim))
    board.paste(glyph, (0, 0), _glyph_mask(name, side, blur))
    return np.asarray(board)
