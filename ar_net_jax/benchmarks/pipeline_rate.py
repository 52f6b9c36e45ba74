"""How fast the input pipeline makes training batches: decode, crop, flip, batch.

By itself it compares the pipeline with the same work done by Pillow alone:

    python -m ar_net_jax.benchmarks.pipeline_rate --rounds=10
"""

import argparse
import contextlib
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import grain
import numpy as np
from PIL import Image

from ar_net_jax.data.augment import random_crop
from ar_net_jax.data.pipeline import Batch, stream, train_batches
from ar_net_jax.data.sampling import train_indices
from ar_net_jax.data.source import VideoExample
from ar_net_jax.experiment import Config
from ar_net_jax.runtime.malloc import keep_freed_memory

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

    def __init__(
        self, num_videos: int, num_frames: int, size: tuple[int, int], *, repeats: int = 1
    ):
        """Draws videos of `num_frames` frames of `size` (width, height).

        Args:
            num_videos: that differ.
            num_frames: frames of each.
            size: width and height.
            repeats: how often each is found in the split. Small ones are unlike real ones: to
                shuffle 4 videos takes Grain longer than to decode one.
        """
        rng = np.random.default_rng(0)
        self._videos = [[_draw(rng, size) for _ in range(num_frames)] for _ in range(num_videos)]
        self._repeats = repeats

    def __len__(self) -> int:
        return len(self._videos) * self._repeats

    def __getitem__(self, index: int) -> VideoExample:
        frames = self._videos[index % len(self._videos)]
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
    source = DrawnVideos(8, data.num_frames, size, repeats=1000)
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


@dataclass(frozen=True)
class Comparison:
    """Frames that one core makes in a second of its time.

    Attributes:
        pipeline: by the pipeline of training.
        pillow: when Pillow decodes, crops and scales, and nothing else differs.
    """

    pipeline: float
    pillow: float

    @property
    def ratio(self) -> float:
        """How many times as fast the pipeline is."""
        return self.pipeline / self.pillow


@dataclass(frozen=True)
class _PillowLoader:
    """Loads examples as training does, with Pillow alone."""

    source: DrawnVideos
    image_size: int

    def __call__(self, place: int) -> Batch:
        frames = self.source[place % len(self.source)]["frames"]
        rng = np.random.default_rng([0, place])
        indices = train_indices(len(frames), len(frames), rng)
        images = [Image.open(io.BytesIO(frames[i])).convert("RGB") for i in indices.tolist()]
        size = self.image_size
        crop = random_crop(*images[0].size, size, rng, multi_scale=True, flip=True)
        box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
        clip = [image.crop(box).resize((size, size), Image.Resampling.BILINEAR) for image in images]
        if crop.flip:
            clip = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in clip]
        return {"frames": np.stack([np.asarray(image) for image in clip])}


def compare_with_pillow(
    *,
    rounds: int = 10,
    num_batches: int = 8,
    num_frames: int = 16,
    batch_size: int = 4,
    image_size: int = 224,
    size: tuple[int, int] = (340, 256),
) -> Comparison:
    """Makes the same batches by the pipeline and by Pillow, in turn and again and again.

    One thread does all. What is counted is its processor time, for each batch in the round in which
    it took least: that is as little as other programs on the machine can disturb it.

    Args:
        rounds: how often each batch is made.
        num_batches: different batches.
        num_frames: frames of a clip.
        batch_size: clips of a batch.
        image_size: side of the crops.
        size: width and height of a stored frame.
    """
    source = DrawnVideos(8, num_frames, size, repeats=1000)
    places = grain.MapDataset.range(num_batches * batch_size)
    by_pillow = places.map(_PillowLoader(source, image_size))
    seconds = []
    for _ in range(rounds):
        pipeline = train_batches(
            source,
            num_frames=num_frames,
            image_size=image_size,
            batch_size=batch_size,
            seed=0,
            flip=True,
            num_threads=0,
        )
        pillow = stream(by_pillow, batch_size, num_threads=0, num_workers=0)
        with contextlib.closing(pipeline), contextlib.closing(pillow):
            pairs = [(_next_takes(pipeline), _next_takes(pillow)) for _ in range(num_batches)]
        seconds.append(pairs)
    # [rounds, batches, 2]; the first batch of each iterator also starts it.
    least = np.min(seconds, axis=0)[1:].mean(0)
    rates = (batch_size * num_frames / least).tolist()
    return Comparison(pipeline=rates[0], pillow=rates[1])


def _next_takes(batches: Iterator[Batch]) -> float:
    started = time.thread_time()
    next(batches)
    return time.thread_time() - started


def main() -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="times that each batch is made")
    # As the command line does for all jobs.
    keep_freed_memory()
    found = compare_with_pillow(rounds=parser.parse_args().rounds)
    print(f"pipeline {found.pipeline:.0f} frames per second and core")
    print(f"Pillow   {found.pillow:.0f} frames per second and core")
    print(f"ratio    {found.ratio:.2f}")


if __name__ == "__main__":
    main()
