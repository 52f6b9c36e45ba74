"""RGB pixels of decoded frames: upright, of one size, in the colours that the file means."""

import math
import struct
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from ar_net_jax.data.decoding.faults import VideoFault

# Codes of ITU-T H.273. swscale converts these matrices (2 and 3 say nothing: it takes BT.601).
_CONVERTED = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 9})
_BT2020, _BT2020_CONSTANT = 9, 10
_DERIVED_FROM_PRIMARIES = frozenset({12, 13})
_MATRIX_OF_PRIMARIES = {1: 1, 4: 4, 5: 5, 6: 6, 7: 7, 9: 9}
_UNSPECIFIED = 2
# One degree: nearer to a quarter turn than this is one.
_DEGREE = 1.0


def quarter_turns(matrix: tuple[int, ...]) -> bool:
    """Whether a display matrix swaps width and height."""
    return abs(_angle(matrix) % 180 - 90) < _DEGREE


def _angle(matrix: tuple[int, ...]) -> float:
    """Clockwise degrees, 0 to 360, of a display matrix; 0 of a degenerate one."""
    across, down = math.hypot(matrix[0], matrix[3]), math.hypot(matrix[1], matrix[4])
    if not across or not down:
        return 0.0
    return round(math.degrees(math.atan2(matrix[1] / down, matrix[0] / across))) % 360


def upright(pixels: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """Turns and mirrors a picture by its display matrix, as the ffmpeg program does.

    Args:
        pixels: uint8 [H, W, 3].
        matrix: nine numbers, row by row, of ISO/IEC 14496-12: the track's matrix.

    Returns:
        uint8 [H, W, 3], or [W, H, 3] after a quarter turn.
    """
    angle = _angle(matrix)
    if abs(angle - 90) < _DEGREE:
        turned = np.swapaxes(pixels, 0, 1) if matrix[3] > 0 else np.rot90(pixels, -1)
    elif abs(angle - 180) < _DEGREE:
        turned = pixels[:, ::-1] if matrix[0] < 0 else pixels
        turned = turned[::-1] if matrix[4] < 0 else turned
    elif abs(angle - 270) < _DEGREE:
        turned = np.rot90(pixels, -1)[::-1] if matrix[3] < 0 else np.rot90(pixels, 1)
    elif angle:
        # A slant: the size stays, and corners that nothing covers are black.
        turned = np.asarray(Image.fromarray(pixels).rotate(-angle, Image.Resampling.BILINEAR))
    else:
        turned = pixels[::-1] if matrix[4] < 0 else pixels
    return np.ascontiguousarray(turned)


def _matrix_of(frame: av.VideoFrame) -> tuple[int, ...] | None:
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else struct.unpack("=9i", bytes(data)[:36])


def _settle_colours(frame: av.VideoFrame) -> None:
    """Names a matrix that swscale converts in place of one that it does not.

    Raises:
        VideoFault: the three planes are not luma and two colour differences, so that no such
            matrix comes near.
    """
    code = frame.colorspace
    if code in _CONVERTED:
        return
    if code == _BT2020_CONSTANT:
        frame.colorspace = _BT2020
    elif code in _DERIVED_FROM_PRIMARIES:
        frame.colorspace = _MATRIX_OF_PRIMARIES.get(frame.color_primaries, _UNSPECIFIED)
    else:
        raise VideoFault(f"its colours (matrix {code} of ITU-T H.273) are not converted")


class PictureConverter:
    """Converts the frames of one video; the first that it is shown decides the size of all."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def start(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Takes the size of a video from its first frame.

        Returns:
            (width, height), upright.
        """
        matrix = _matrix_of(frame)
        swaps = matrix is not None and quarter_turns(matrix)
        self._size = (frame.height, frame.width) if swaps else (frame.width, frame.height)
        return self._size

    def pixels(self, frame: av.VideoFrame) -> np.ndarray:
        """RGB, uint8 [H, W, 3], of the video's size.

        Raises:
            VideoFault: the frame's colours cannot be converted.
        """
        width, height = self._size or self.start(frame)
        matrix = _matrix_of(frame)
        if matrix is not None and quarter_turns(matrix):
            width, height = height, width
        _settle_colours(frame)
        # By default threads are started for every frame, which costs far more than it gains.
        converted = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            # ffmpeg's choice, for colours stored at half the size too.
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        pixels = converted.to_ndarray()
        return pixels if matrix is None else upright(pixels, matrix)
