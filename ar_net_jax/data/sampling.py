"""Which frames of a video a model sees: one per segment of time."""

import numpy as np
from jaxtyping import Int32


def _all_then_last(n: int, num_frames: int) -> np.ndarray:
    return np.minimum(np.arange(num_frames), n - 1).astype(np.int32)


def _check(n: int, num_frames: int) -> None:
    if n < 1 or num_frames < 1:
        raise ValueError(f"cannot sample {num_frames} frames of a video that has {n}")


def train_indices(
    n: int, num_frames: int, rng: np.random.Generator
) -> Int32[np.ndarray, " {num_frames}"]:
    """Draws a random frame from each of `num_frames` equal segments.

    A video with fewer frames than segments gives all of them and repeats its last. (As in the
    released AR-Net; its case of a sorted random draw, n > num_frames without a whole frame per
    segment, cannot arise.)

    Args:
        n: frames of the video.
        num_frames: frames to draw.
        rng: where the randomness comes from.

    Returns:
        int32 [num_frames], not descending, 0-based.

    Raises:
        ValueError: a count below 1.
    """
    _check(n, num_frames)
    length = n // num_frames
    if length == 0:
        return _all_then_last(n, num_frames)
    offsets = rng.integers(length, size=num_frames)
    return (np.arange(num_frames) * length + offsets).astype(np.int32)


def eval_indices(n: int, num_frames: int) -> Int32[np.ndarray, " {num_frames}"]:
    """The middle frame of each of `num_frames` equal segments.

    Args:
        n: frames of the video.
        num_frames: frames to take.

    Returns:
        int32 [num_frames], not descending, 0-based; a video of at most `num_frames` frames gives
        all of them and repeats its last.

    Raises:
        ValueError: a count below 1.
    """
    _check(n, num_frames)
    if n <= num_frames:
        return _all_then_last(n, num_frames)
    tick = n / num_frames
    return (tick / 2.0 + tick * np.arange(num_frames)).astype(np.int32)
