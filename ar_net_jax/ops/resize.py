"""From uint8 frames to the input of a network, on the device: resize, then normalise."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Resize = Literal["nearest", "antialias"]


class Normalisation(NamedTuple):
    """What a network's frames are normalised by.

    Attributes:
        mean: of red, green and blue in [0, 1], which is subtracted.
        std: of the same, by which the rest is divided.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Statistics of ImageNet's photographs, by which most published weights expect their frames."""


def nearest_indices(source: int, target: int) -> np.ndarray:
    """Source index of each target pixel by the released rule, floor(i * source / target).

    This is PyTorch's `nearest`, which does not use pixel centres.
    """
    return np.arange(target) * source // target


def prepare_frames(
    frames: Array,
    size: int,
    resize: Resize = "nearest",
    normalisation: Normalisation = IMAGENET,
) -> Array:
    """Resizes square frames and normalises them.

    Args:
        frames: uint8 [..., S, S, 3].
        size: target side in pixels.
        resize: `nearest` with the released index rule, or `antialias` (triangle filter).
        normalisation: mean and deviation that the network expects.

    Returns:
        float32 [..., size, size, 3].
    """
    source = frames.shape[-2]
    if source != size and resize == "nearest":
        index = nearest_indices(source, size)
        frames = jnp.take(jnp.take(frames, index, axis=-3), index, axis=-2)
    x = frames.astype(jnp.float32)
    if source != size and resize == "antialias":
        x = jax.image.resize(x, (*x.shape[:-3], size, size, 3), "linear", antialias=True)
    mean, std = (np.asarray(each, np.float32) for each in normalisation)
    return x * (1.0 / (255.0 * std)) - mean / std
