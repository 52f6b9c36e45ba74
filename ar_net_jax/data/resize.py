"""Scaling with Pillow's bilinear filter, in a third of its time where there is a build for it."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

try:
    from cykooz_resizer import FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer

    _BILINEAR = ResizeOptions(ResizeAlg.convolution(FilterType.bilinear))
except ImportError:  # There is none for Linux on ARM: see pyproject.toml.
    _BILINEAR = None


def resize(
    image: UInt8[np.ndarray, "_ _ 3"], width: int, height: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Scales an RGB image with a bilinear filter that widens as the image shrinks, as Pillow's.

    The result is at most two levels from Pillow's: both round after each of two passes, one over
    rows and one over columns, and not in the same order.

    Args:
        image: uint8; a view, such as a crop, is taken for itself.
        width: of the result.
        height: of the result.

    Returns:
        uint8 [height, width, 3]; read-only.
    """
    if image.shape[:2] == (height, width):
        return image
    if _BILINEAR is None:
        return resize_by_pillow(image, width, height)
    source = ImageData(image.shape[1], image.shape[0], PixelType.U8x3, image.tobytes())
    target = ImageData(width, height, PixelType.U8x3)
    # One for each call: it is locked while it works, and threads would wait for each other.
    Resizer().resize(source, target, _BILINEAR)
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(height, width, 3)


def resize_by_pillow(
    image: UInt8[np.ndarray, "_ _ 3"], width: int, height: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """What `resize` does, by Pillow itself."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
