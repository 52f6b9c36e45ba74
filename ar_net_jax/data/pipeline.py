"""From stored videos to batches: sampling, decoding, augmentation, batching with grain.

A batch is a dict of arrays with B rows: `frames` uint8 [B, T, S, S, 3]; `labels` int32 [B, K],
ascending, padded with -1; `example_id` int32 [B], the example's index in its split; `epoch` int32
[B]; `mask` bool [B], False on rows of padding; `frame_index` int32 [B, T], the place of each frame
in the stored video.
"""

import dataclasses
import io
import os
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np
from PIL import Image

from ar_net_jax.data.augment import eval_clip, random_clip
from ar_net_jax.data.sampling import eval_indices, train_indices
from ar_net_jax.data.source import VideoSource

Batch = dict[str, np.ndarray]

_PADDING = -1


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def decode_jpegs(frames: Sequence[bytes], indices: np.ndarray) -> list[Image.Image]:
    """Decodes the chosen frames, each once however often it is repeated."""
    decoded = {i: Image.open(io.BytesIO(frames[i])).convert("RGB") for i in set(indices.tolist())}
    return [decoded[i] for i in indices.tolist()]


def _pad_labels(labels: np.ndarray, width: int) -> np.ndarray:
    row = np.full(width, _PADDING, np.int32)
    unique = np.unique(labels)
    row[: len(unique)] = unique
    return row


def _row(
    example_id: int, epoch: int, frames: np.ndarray, indices: np.ndarray, labels: np.ndarray
) -> Batch:
    return {
        "frames": frames,
        "labels": labels,
        "example_id": np.int32(example_id),
        "epoch": np.int32(epoch),
        "mask": np.bool_(example_id != _PADDING),
        "frame_index": indices.astype(np.int32),
    }


@dataclasses.dataclass(frozen=True)
class _TrainLoader:
    """Loads an example as training sees it; its randomness is its own: (seed, epoch, id)."""

    source: VideoSource
    num_frames: int
    image_size: int
    seed: int
    multi_scale: bool
    flip: bool

    def __call__(self, place: tuple[int, int]) -> Batch:
        epoch, example_id = place
        example = self.source[example_id]
        rng = np.random.default_rng([self.seed, epoch, example_id])
        indices = train_indices(len(example["frames"]), self.num_frames, rng)
        images = decode_jpegs(example["frames"], indices)
        clip = random_clip(
            images, self.image_size, rng, multi_scale=self.multi_scale, flip=self.flip
        )
        labels = _pad_labels(example["labels"], self.source.max_labels)
        return _row(example_id, epoch, clip, indices, labels)


@dataclasses.dataclass(frozen=True)
class _EvalLoader:
    """Loads an example as evaluation sees it, or a row of padding."""

    source: VideoSource
    num_frames: int
    image_size: int

    def __call__(self, example_id: int) -> Batch:
        if example_id >= len(self.source):
            shape = (self.num_frames, self.image_size, self.image_size, 3)
            labels = np.full(self.source.max_labels, _PADDING, np.int32)
            indices = np.zeros(self.num_frames, np.int32)
            return _row(_PADDING, 0, np.zeros(shape, np.uint8), indices, labels)
        example = self.source[example_id]
        indices = eval_indices(len(example["frames"]), self.num_frames)
        clip = eval_clip(decode_jpegs(example["frames"], indices), self.image_size)
        labels = _pad_labels(example["labels"], self.source.max_labels)
        return _row(example_id, 0, clip, indices, labels)


def _read_options(num_threads: int | None, batch_size: int) -> grain.ReadOptions:
    threads = _cores() if num_threads is None else num_threads
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * batch_size)


def _check_process(process_index: int, process_count: int) -> None:
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index {process_index} is not in 0..{process_count - 1}")


def train_batches(
    source: VideoSource,
    *,
    num_frames: int,
    image_size: int,
    batch_size: int,
    seed: int,
    flip: bool,
    multi_scale: bool = True,
    num_threads: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Endless shuffled and augmented batches.

    Every epoch holds every example once, in its own order; a batch may straddle two epochs. With
    several processes, row r of process p's batch b is row r * process_count + p of the batch
    b that a single process would draw.

    Args:
        source: the split.
        num_frames: T, one from each of T equal segments.
        image_size: S.
        batch_size: B, rows of this process.
        seed: of order and augmentation, not negative.
        flip: whether to mirror half of the videos.
        multi_scale: whether to crop at random; otherwise in the centre.
        num_threads: threads that load examples; as many as cores when None.
        process_index: which process this is.
        process_count: how many there are.

    Returns:
        An iterator over batches (see the module); `get_state()` and `set_state()` save and restore
        its place, and orbax does with `grain.checkpoint`.
    """
    _check_process(process_index, process_count)
    size = len(source)

    def place(position: int, example_id: int) -> tuple[int, int]:
        return position // size, int(example_id)

    load = _TrainLoader(source, num_frames, image_size, seed, multi_scale, flip)
    order = grain.MapDataset.range(size).seed(seed).shuffle().repeat().map_with_index(place)
    examples = order[process_index::process_count].map(load)
    stream = examples.to_iter_dataset(_read_options(num_threads, batch_size))
    return iter(stream.batch(batch_size))


@dataclasses.dataclass(frozen=True)
class EvalBatches:
    """The batches of a split, once through for each `iter()`; `len()` is their number."""

    start: Callable[[], Iterator[Batch]]
    num_batches: int

    def __iter__(self) -> Iterator[Batch]:
        return self.start()

    def __len__(self) -> int:
        return self.num_batches


def eval_batches(
    source: VideoSource,
    *,
    num_frames: int,
    image_size: int,
    batch_size: int,
    num_threads: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> EvalBatches:
    """Every example once, in order, centre-cropped; the last batch is padded.

    Rows of padding have `mask` False, `example_id` -1 and labels -1. All processes get the same
    number of batches.

    Args:
        source: the split.
        num_frames: T, the middle of each of T equal segments; a video with fewer frames repeats
            its last.
        image_size: S.
        batch_size: B, rows of this process.
        num_threads: threads that load examples; as many as cores when None.
        process_index: which process this is.
        process_count: how many there are.

    Returns:
        Batches (see the module), re-iterable.
    """
    _check_process(process_index, process_count)
    num_batches = -(-len(source) // (batch_size * process_count))
    rows = grain.MapDataset.range(num_batches * batch_size * process_count)
    load = _EvalLoader(source, num_frames, image_size)
    examples = rows[process_index::process_count].map(load)
    stream = examples.to_iter_dataset(_read_options(num_threads, batch_size)).batch(batch_size)
    return EvalBatches(lambda: iter(stream), num_batches)
