"""How fast the input pipeline makes training batches: decode, crop, flip, batch."""

import contextlib
import io
import os
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ar_net_jax.data.pipeline import train_batches
from ar_net_jax.data.source import VideoExample
from ar_net_jax.experiment import Config

_QUALITY = 90


@dataclass(frozen=True)
class PipelineRate:
    """How fast training batches are made.

    Attributes:
        frames_per_second: of all cores together.
        cores: that could be used, no more than threads or workers.
        frames_per_second_per_core: of one.
        bytes_per_frame: as stored, on average.
    """

    frames_per_second: float
    cores: int
    frames_per_second_per_core: float
    bytes_per_frame: float


class DrawnVideos:
    """Random videos in memory, in place of a prepared split.

    The frames are blurred noise under a little sharp noise: about as many bytes per pixel as a
    photograph takes.
    """

    split = "drawn"
    max_labels = 1

    def __init__(self, num_videos: int, num_frames: int, size: tuple[int, int]):
        """Draws videos of `num_frames` frames of `size` (width, height)."""
        rng = np.random.default_rng(0)
        self._videos = [[_draw(rng, size) for _ in range(num_frames)] for _ in range(num_videos)]

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> VideoExample:
        frames = self._videos[index]
        return VideoExample(
            frames=frames, labels=np.zeros(1, np.int32), name=str(index), num_frames=len(frames)
        )

    @property
    def bytes_per_frame(self) -> float:
        """Mean size of a stored frame."""
        sizes = [len(frame) for frames in self._videos for frame in frames]
        return sum(sizes) / len(sizes)


def _draw(rng: np.random.Generator, size: tuple[int, int]) -> bytes:
    coarse = Image.fromarray(rng.integers(0, 256, (size[1] // 16, size[0] // 16, 3), np.uint8))
    pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float32)
    pixels = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def measure_pipeline(
    config: Config, *, seconds: float = 10.0, size: tuple[int, int] = (340, 256)
) -> PipelineRate:
    """Frames per second of training batches, from stored JPEG frames.

    Args:
        config: its data options say how: frames, crop, threads or worker processes.
        seconds: to measure for.
        size: width and height of a stored frame.
    """
    data = config.data
    source = DrawnVideos(2 * data.batch_size, data.num_frames, size)
    batches = train_batches(
        source,
        num_frames=data.num_frames,
        image_size=config.build_method().image_size,
        batch_size=data.batch_size,
        seed=0,
        flip=data.flip,
        multi_scale=data.multi_scale,
        num_threads=data.num_threads,
        num_workers=data.num_workers,
    )
    with contextlib.closing(batches):
        # What was prepared ahead must not count: it is used up first.
        for _ in range(4):
            next(batches)
        started, frames = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            frames += next(batches)["frames"].shape[0] * data.num_frames
        rate = frames / (time.perf_counter() - started)
    cores = min(len(os.sched_getaffinity(0)), data.num_workers or data.num_threads)
    return PipelineRate(rate, cores, rate / cores, source.bytes_per_frame)
