"""Draws the frames of an embedded video: places, camera, boards, light and noise."""

import dataclasses

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFilter

from ar_net_jax.data.embedded.glyphs import CLASS_NAMES, Colour, draw_board
from ar_net_jax.data.embedded.plan import EmbeddedSpec, Shot, VideoPlan

# Frames are drawn at twice their size and averaged down, which smooths every edge.
_SCALE = 2
_PLACES = 3


def _colour(rng: np.random.Generator, low: int, high: int) -> Colour:
    red, green, blue = rng.integers(low, high, 3)
    return int(red), int(green), int(blue)


def _draw_place(rng: np.random.Generator, width: int, height: int, clutter: float) -> Image.Image:
    """A cluttered backdrop: soft colour fields under random shapes, none of them a glyph.

    Args:
        rng: the video's generator.
        width: pixels.
        height: pixels.
        clutter: strength of colours and contrasts, 0 (grey) to 1 (garish).
    """
    low, high = round(110 - 90 * clutter), round(110 + 126 * clutter)
    field = rng.integers(low, high, (5, 6, 3), dtype=np.uint8)
    place = Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(place)
    for _ in range(int(rng.integers(45, 75))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        reach = rng.uniform(0.03, 0.16) * height
        colour = _colour(rng, low, high)
        shape = rng.integers(3)
        if shape == 0:
            w, h = reach * rng.uniform(0.4, 1.3, 2)
            draw.ellipse((x - w, y - h, x + w, y + h), fill=colour)
        elif shape == 1:
            corners = rng.uniform(-reach, reach, (int(rng.integers(3, 7)), 2)) + (x, y)
            draw.polygon([(float(a), float(b)) for a, b in corners], fill=colour)
        else:
            dx, dy = rng.uniform(-2 * reach, 2 * reach, 2)
            draw.line((x, y, x + dx, y + dy), fill=colour, width=int(rng.integers(2, 7)))
    return place.filter(ImageFilter.GaussianBlur(1.2))


@dataclasses.dataclass(frozen=True)
class _Drift:
    """A smooth path of several coordinates: a line plus a slow swing."""

    start: np.ndarray
    speed: np.ndarray
    swing: np.ndarray
    phase: np.ndarray
    rhythm: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, start: np.ndarray, reach: np.ndarray) -> "_Drift":
        n = len(start)
        return cls(
            start=np.asarray(start, np.float64),
            speed=rng.uniform(-0.12, 0.12, n) * reach,
            swing=rng.uniform(0.1, 0.4, n) * reach,
            phase=rng.uniform(0, 2 * np.pi, n),
            rhythm=rng.uniform(0.3, 0.9, n),
        )

    def at(self, t: float) -> np.ndarray:
        return self.start + self.speed * t + self.swing * np.sin(self.rhythm * t + self.phase)


def _view(place: Image.Image, pose: np.ndarray, width: int, height: int) -> Image.Image:
    """What a camera at `pose` = (x, y, angle, log zoom) sees of a place."""
    x, y, angle, zoom = pose
    c, s = np.cos(angle) * np.exp(zoom), np.sin(angle) * np.exp(zoom)
    margin_x, margin_y = 0.62 * width, 0.62 * height
    x = np.clip(x, margin_x, place.width - margin_x)
    y = np.clip(y, margin_y, place.height - margin_y)
    matrix = (c, -s, x - c * width / 2 + s * height / 2, s, c, y - s * width / 2 - c * height / 2)
    # A place is soft, and what is drawn is averaged down: a finer filter changes next to nothing.
    return place.transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST
    )


def _homography(quad: np.ndarray, side: int) -> tuple[float, ...]:
    """Coefficients from a point of the frame to the board with corners at `quad` [4, 2]."""
    corners = np.array([(0, 0), (side, 0), (side, side), (0, side)], np.float64)
    rows = []
    for (x, y), (u, v) in zip(quad, corners, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    return tuple(np.linalg.solve(np.array(rows), corners.ravel()))


class _Board:
    """One board through one shot: how it looks and how it moves."""

    def __init__(self, rng: np.random.Generator, shot: Shot, spec: EmbeddedSpec):
        self._width, self._height = spec.width * _SCALE, spec.height * _SCALE
        self._side = shot.size * self._height
        self._tile = _draw_tile(rng, shot, spec, round(self._side))
        room = max(0.0, 0.5 * (0.9 * self._height - self._side))
        centre = np.array([self._width, self._height]) / 2 + rng.uniform(-room, room, 2)
        angle = np.deg2rad(rng.uniform(-0.7, 0.7) * spec.rotation)
        sway = np.deg2rad(0.3 * spec.rotation)
        reach = 0.05 * self._height
        self._pose = _Drift.draw(
            rng, np.array([*centre, angle, 0.0]), np.array([reach, reach, sway, 0.06])
        )
        self._tilt = _Drift.draw(rng, rng.uniform(-0.06, 0.06, 8), np.full(8, 0.03))

    def paint(self, frame: Image.Image, t: float) -> None:
        """Pastes the board on `frame` as it stands `t` frames after the middle of the shot."""
        x, y, angle, zoom = self._pose.at(t)
        half = self._side * np.exp(zoom) / 2
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64)
        corners += self._tilt.at(t).reshape(4, 2)
        c, s = np.cos(angle), np.sin(angle)
        quad = half * corners @ np.array([[c, s], [-s, c]]) + (x, y)
        low = np.floor(quad.min(axis=0)).astype(int) - 1
        high = np.ceil(quad.max(axis=0)).astype(int) + 1
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        patch = self._tile.transform(
            size,
            Image.Transform.PERSPECTIVE,
            _homography(quad - low, self._tile.width),
            Image.Resampling.BILINEAR,
        )
        frame.paste(patch, (int(low[0]), int(low[1])), patch.getchannel("A"))


def _draw_tile(rng: np.random.Generator, shot: Shot, spec: EmbeddedSpec, side: int) -> Image.Image:
    """A board seen straight on, RGBA: a red glyph on white, or a blue one where it misleads."""
    contrast = rng.uniform(*spec.glyph_contrast)
    base = rng.uniform(205, 245, 3)
    ink = np.array((0.15, 1.0, 1.0) if shot.kind != "misleading" else (1.0, 0.7, 0.1))
    glyph = base * (1 - contrast * ink) + rng.uniform(-15, 15, 3)
    border = rng.uniform(30, 80, 3)
    blur = rng.uniform(*spec.glyph_blur) if shot.kind == "blurred" else 0.0

    def rgb(values: np.ndarray) -> Colour:
        red, green, blue = np.clip(values, 0, 255).astype(int)
        return int(red), int(green), int(blue)

    tile = draw_board(
        CLASS_NAMES[shot.glyph],
        side,
        base=rgb(base),
        glyph=rgb(glyph),
        border=rgb(border),
        blur=blur,
    )
    image = Image.fromarray(tile)
    image.putalpha(255)
    return image


class _Light:
    """Brightness and colour cast that change over a video, and the sensor's noise."""

    def __init__(self, rng: np.random.Generator, spec: EmbeddedSpec):
        self._noise = spec.noise
        self._jitter = 0.15 * spec.flicker
        self._gain = _Drift.draw(rng, np.zeros(3), np.full(3, 0.15 * spec.flicker))
        self._common = _Drift.draw(
            rng, rng.uniform(-0.4, 0.4, 1) * spec.flicker, np.array([0.6 * spec.flicker])
        )

    def apply(self, rng: np.random.Generator, frame: np.ndarray, t: float) -> np.ndarray:
        # The drift's line is slowed: over a whole video it would leave the range of a sensor.
        gain = 1 + self._gain.at(0.1 * t) + self._common.at(0.1 * t)
        gain = gain * (1 + self._jitter * rng.uniform(-1, 1))
        noise = rng.standard_normal(frame.shape, dtype=np.float32) * self._noise
        lit = frame * gain.astype(np.float32) + noise
        return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


def draw_frames(
    rng: np.random.Generator, plan: VideoPlan, spec: EmbeddedSpec
) -> UInt8[np.ndarray, "{spec.num_frames} {spec.height} {spec.width} 3"]:
    """Draws a video.

    Args:
        rng: the video's generator, after it drew the plan.
        plan: its shots.
        spec: the data set's parameters.

    Returns:
        RGB frames, uint8 [spec.num_frames, spec.height, spec.width, 3].
    """
    width, height = spec.width * _SCALE, spec.height * _SCALE
    places = [_draw_place(rng, 2 * width, 2 * height, spec.clutter) for _ in range(_PLACES)]
    light = _Light(rng, spec)
    frames: list[np.ndarray] = []
    for shot in plan.shots:
        place = places[int(rng.integers(_PLACES))]
        start = np.array([*rng.uniform(0.7, 1.3, 2) * (width, height), rng.uniform(-0.2, 0.2), 0.0])
        camera = _Drift.draw(rng, start, np.array([0.25 * width, 0.25 * height, 0.15, 0.08]))
        board = None if shot.kind == "empty" else _Board(rng, shot, spec)
        for i in range(shot.num_frames):
            t = i - shot.num_frames / 2
            frame = _view(place, camera.at(t), width, height)
            if board is not None:
                board.paint(frame, t)
            pixels = np.asarray(frame.reduce(_SCALE), np.float32)
            frames.append(light.apply(rng, pixels, len(frames)))
    return np.stack(frames)
