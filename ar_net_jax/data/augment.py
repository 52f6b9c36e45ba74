"""Cropping and flipping on the host, the same for all frames of a video; Pillow's bilinear.

Evaluation is Pillow's work, so that it equals the published transform to the last bit. Training
takes arrays and a faster resizer, at most two levels from Pillow.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ar_net_jax.data.resize import resize

SCALES = (1.0, 0.875, 0.75, 0.66)
_MAX_DISTORT = 1
_SNAP = 3  # pixels: a crop this close to the output's side takes that side
_EVAL_RATIO = 256 / 224


@dataclasses.dataclass(frozen=True)
class Crop:
    """A rectangle of a frame, in pixels, and whether to mirror it left to right."""

    left: int
    top: int
    width: int
    height: int
    flip: bool = False


def crop_sizes(width: int, height: int, size: int) -> list[tuple[int, int]]:
    """Widths and heights a multi-scale crop may have.

    Args:
        width: frame width.
        height: frame height.
        size: side of the output.

    Returns:
        (width, height) pairs: scales of the frame's short side, at most one step apart.
    """
    sides = [int(min(width, height) * scale) for scale in SCALES]
    sides = [size if abs(side - size) < _SNAP else side for side in sides]
    sides = [min(side, width, height) for side in sides]
    return [
        (w, h)
        for i, h in enumerate(sides)
        for j, w in enumerate(sides)
        if abs(i - j) <= _MAX_DISTORT
    ]


def crop_positions(width: int, height: int, crop_w: int, crop_h: int) -> list[tuple[int, int]]:
    """The 13 corners (left, top) a crop may have: a 3x3 grid and 4 points between."""
    step_x, step_y = (width - crop_w) // 4, (height - crop_h) // 4
    grid = [(i, j) for j in (0, 2, 4) for i in (0, 2, 4)]
    between = [(i, j) for j in (1, 3) for i in (1, 3)]
    return [(i * step_x, j * step_y) for i, j in grid + between]


def random_crop(
    width: int, height: int, size: int, rng: np.random.Generator, *, multi_scale: bool, flip: bool
) -> Crop:
    """Decides how the frames of one video are cropped in training.

    Args:
        width: frame width.
        height: frame height.
        size: side of the output.
        rng: where the randomness comes from.
        multi_scale: whether to crop at random; otherwise the centre crop of evaluation.
        flip: whether to mirror half of the videos.

    Returns:
        The crop.
    """
    if multi_scale:
        sizes = crop_sizes(width, height, size)
        w, h = sizes[rng.integers(len(sizes))]
        positions = crop_positions(width, height, w, h)
        left, top = positions[rng.integers(len(positions))]
        crop = Crop(left, top, w, h)
    else:
        side = round(min(width, height) / _EVAL_RATIO)
        crop = Crop(round((width - side) / 2), round((height - side) / 2), side, side)
    return dataclasses.replace(crop, flip=bool(flip and rng.random() < 0.5))


def apply_crop(
    frame: UInt8[np.ndarray, "_ _ 3"], crop: Crop, size: int
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Crops one frame and scales it to uint8 [size, size, 3].

    Args:
        frame: RGB, and no smaller than the crop.
        crop: what is kept of it.
        size: side of the output.
    """
    box = frame[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    image = resize(box, size, size)
    return _mirror(image) if crop.flip else image


def _mirror(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    mirrored = np.empty_like(image)
    # By channel: NumPy takes seven times as long to turn round pixels of three bytes at once.
    for channel in range(3):
        mirrored[..., channel] = image[:, ::-1, channel]
    return mirrored


def shrink_short_side(frame: Image.Image, side: int) -> Image.Image:
    """Scales a frame so that its shorter side has `side` pixels; the shape is kept."""
    width, height = frame.size
    if min(width, height) == side:
        return frame
    if width < height:
        target = (side, int(side * height / width))
    else:
        target = (int(side * width / height), side)
    return frame.resize(target, Image.Resampling.BILINEAR)


def eval_crop(frame: Image.Image, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Evaluation: short side to size * 256 / 224, centre crop of `size`.

    Args:
        frame: RGB.
        size: side of the output.

    Returns:
        uint8 [size, size, 3].
    """
    frame = shrink_short_side(frame, round(size * _EVAL_RATIO))
    left, top = round((frame.width - size) / 2), round((frame.height - size) / 2)
    return np.asarray(frame.crop((left, top, left + size, top + size)))


def random_clip(
    frames: Iterable[UInt8[np.ndarray, "_ _ 3"]],
    size: int,
    rng: np.random.Generator,
    *,
    multi_scale: bool = True,
    flip: bool = True,
) -> UInt8[np.ndarray, "_ {size} {size} 3"]:
    """Augments the frames of a video alike.

    Args:
        frames: RGB, one or more. A frame that has not the size of the first is scaled to it, for
            the crop fits that one.
        size: side of the output.
        rng: where the randomness comes from.
        multi_scale: as in `random_crop`.
        flip: as in `random_crop`.

    Returns:
        uint8 [number of frames, size, size, 3].
    """
    # Taken one by one: a frame that is decoded only now is still in the processor's cache.
    rest = iter(frames)
    first = next(rest)
    height, width, _ = first.shape
    crop = random_crop(width, height, size, rng, multi_scale=multi_scale, flip=flip)
    same_size = (resize(frame, width, height) for frame in itertools.chain([first], rest))
    return np.stack([apply_crop(frame, crop, size) for frame in same_size])


def eval_clip(frames: Sequence[Image.Image], size: int) -> UInt8[np.ndarray, "t {size} {size} 3"]:
    """Crops the frames of a video for evaluation: uint8 [len(frames), size, size, 3]."""
    return np.stack([eval_crop(frame, size) for frame in frames])
