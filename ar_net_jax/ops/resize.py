"""From uint8 frames to the input of a network, on the device: resize, then normalise."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Resize = Literal["nearest", "antialias"]

# ImageNet statistics of RGB in [0, 1].
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)


def nearest_indices(source: int, target: int) -> np.ndarray:
    """Source index of each target pixel by the released rule, floor(i * source / target).

    This is PyTorch's `nearest`, which does not use pixel centres.
    """
    return np.arange(target) * source // target


def prepare_frames(frames: Array, size: int, resize: Resize = "nearest") -> Array:
    """Resizes square frames and normalises them with the ImageNet mean and deviation.

    Args:
        frames: uint8 [..., S, S, 3].
        size: target side in pixels.
        resize: `nearest` with the released index rule, or `antialias` (triangle filter).

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
    return x * (1.0 / (255.0 * STD)) - MEAN / STD
