"""From stored videos to batches: sampling, decoding, augmentation, batching with grain.

A batch is a dict of arrays with B rows: `frames` uint8 [B, T, S, S, 3]; `labels` int32 [B, K],
the main one first, padded with -1; `example_id` int32 [B], the example's index in its split;
`epoch` int32 [B]; `mask` bool [B], False on rows of padding; `frame_index` int32 [B, T], the place
of each frame in the stored video.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence

import grain
import numpy as np
from PIL import Image

from ar_net_jax.data.augment import eval_clip, random_clip
from ar_net_jax.data.jpeg import decode_jpeg
from ar_net_jax.data.sampling import eval_indices, train_indices
from ar_net_jax.data.source import VideoExample, Videos
from ar_net_jax.data.workers import Batch as Batch
from ar_net_jax.data.workers import Row, read_by_workers
from ar_net_jax.errors import UserError, first_line

_PADDING = -1


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def decode_jpegs(frames: Sequence[bytes], indices: np.ndarray) -> list[Image.Image]:
    """Decodes the chosen frames, each once however often it is repeated."""
    decoded = {i: Image.fromarray(decode_jpeg(frames[i])) for i in set(indices.tolist())}
    return [decoded[i] for i in indices.tolist()]


def _read(source: Videos, example_id: int) -> VideoExample:
    """Reads a record; a damaged one is named."""
    try:
        return source[example_id]
    except Exception as error:
        raise UserError(
            f"split '{source.split}', example {example_id}: the stored record cannot be read "
            f"({first_line(error)}); prepare the data set again"
        ) from error


@contextlib.contextmanager
def _named(example: VideoExample, example_id: int) -> Iterator[None]:
    """Says of what fails within which video it is."""
    try:
        yield
    except Exception as error:
        raise UserError(
            f"video '{example['name']}' (example {example_id}): a stored frame cannot be decoded "
            f"({first_line(error)}); prepare the data set again"
        ) from error


def _pad_labels(labels: np.ndarray, width: int) -> np.ndarray:
    row = np.full(width, _PADDING, np.int32)
    row[: len(labels)] = labels
    return row


def _row(
    example_id: int, epoch: int, frames: np.ndarray, indices: np.ndarray, labels: np.ndarray
) -> Row:
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

    source: Videos
    num_frames: int
    image_size: int
    seed: int
    multi_scale: bool
    flip: bool

    def __call__(self, place: tuple[int, int]) -> Row:
        epoch, example_id = place
        example = _read(self.source, example_id)
        rng = np.random.default_rng([self.seed, epoch, example_id])
        indices = train_indices(len(example["frames"]), self.num_frames, rng)
        # A short video repeats its last frame.
        distinct, places = np.unique(indices, return_inverse=True)
        frames = (decode_jpeg(example["frames"][i]) for i in distinct.tolist())
        with _named(example, example_id):
            clip = random_clip(
                frames, self.image_size, rng, multi_scale=self.multi_scale, flip=self.flip
            )
        clip = clip if len(distinct) == len(indices) else clip[places]
        labels = _pad_labels(example["labels"], self.source.max_labels)
        return _row(example_id, epoch, clip, indices, labels)


@dataclasses.dataclass(frozen=True)
class _EvalLoader:
    """Loads an example as evaluation sees it, or a row of padding."""

    source: Videos
    num_frames: int
    image_size: int

    def __call__(self, example_id: int) -> Row:
        if example_id >= len(self.source):
            shape = (self.num_frames, self.image_size, self.image_size, 3)
            labels = np.full(self.source.max_labels, _PADDING, np.int32)
            indices = np.zeros(self.num_frames, np.int32)
            return _row(_PADDING, 0, np.zeros(shape, np.uint8), indices, labels)
        example = _read(self.source, example_id)
        indices = eval_indices(len(example["frames"]), self.num_frames)
        with _named(example, example_id):
            clip = eval_clip(decode_jpegs(example["frames"], indices), self.image_size)
        labels = _pad_labels(example["labels"], self.source.max_labels)
        return _row(example_id, 0, clip, indices, labels)


@dataclasses.dataclass(frozen=True)
class _OwnPlaces:
    """The places, in the order of all batches, that one process loads.

    Batch b holds the places b * batch_size and following; a process loads its `rows` of each. So
    the batches do not depend on how many processes share them.
    """

    batch_size: int
    rows: tuple[int, ...]
    first_batch: int
    num_batches: int | None

    def __len__(self) -> int:
        return sys.maxsize if self.num_batches is None else self.num_batches * len(self.rows)

    def __getitem__(self, index: int) -> int:
        batch, row = divmod(index, len(self.rows))
        return (self.first_batch + batch) * self.batch_size + self.rows[row]


def _own_rows(rows: Sequence[int] | None, batch_size: int) -> tuple[int, ...]:
    own = tuple(range(batch_size)) if rows is None else tuple(rows)
    if not own or min(own) < 0 or max(own) >= batch_size:
        raise ValueError(f"rows {own} are not among the {batch_size} rows of a batch")
    return own


def stream(
    examples: grain.MapDataset, batch_size: int, num_threads: int | None, num_workers: int
) -> Generator[Batch, None, None]:
    """Batches of examples, loaded ahead by threads of this process or by worker processes.

    Args:
        examples: what loads one row of a batch each; picklable, if there are workers.
        batch_size: rows of a batch.
        num_threads: as in `train_batches`.
        num_workers: as in `train_batches`.
    """
    if num_workers:
        return read_by_workers(examples, batch_size, num_workers)
    threads = _cores() if num_threads is None else num_threads
    # With fewer places than threads, Grain warns that some threads would have nothing to do.
    ahead = grain.ReadOptions(threads, max(2 * batch_size, threads))
    return _closing(examples.to_iter_dataset(ahead).batch(batch_size))


def _closing(batches: grain.IterDataset) -> Generator[Batch, None, None]:
    """The batches; closing the iterator ends the threads that load them."""
    with contextlib.closing(iter(batches)) as iterator:
        yield from iterator


def train_batches(
    source: Videos,
    *,
    num_frames: int,
    image_size: int,
    batch_size: int,
    seed: int,
    flip: bool,
    multi_scale: bool = True,
    num_threads: int | None = None,
    num_workers: int = 0,
    rows: Sequence[int] | None = None,
    first_batch: int = 0,
) -> Generator[Batch, None, None]:
    """Endless shuffled and augmented batches.

    Epochs follow each other without a gap: every example comes once in an epoch, and a batch may
    hold the last of one epoch and the first of the next. What batch b holds follows from (seed,
    b) alone, so its number is all that has to be remembered to go on from there.

    Args:
        source: the split.
        num_frames: T, sampled one from each of T equal segments.
        image_size: S.
        batch_size: B, over all processes.
        seed: of order, sampling and augmentation.
        flip: flip half of the clips horizontally.
        multi_scale: the multi-scale crop; otherwise the centre crop of evaluation.
        num_threads: threads that load examples; as many as cores when None.
        num_workers: processes that load batches instead of threads; 0 for none.
        rows: which rows of every batch to load; all by default. Processes that share a job load
            one part each.
        first_batch: number of the first batch to give.

    Returns:
        An iterator over batches of `len(rows)` rows (see the module). Close it to end worker
        processes.

    Raises:
        UserError: while iterating: a stored video is damaged (it is named), or a worker has died.
    """
    size = len(source)
    order = grain.MapDataset.range(size).seed(seed).shuffle().repeat()
    own = _own_rows(rows, batch_size)

    def find(place: int) -> tuple[int, int]:
        return place // size, int(order[place])

    places = _OwnPlaces(batch_size, own, first_batch, num_batches=None)
    load = _TrainLoader(source, num_frames, image_size, seed, multi_scale, flip)
    examples = grain.MapDataset.source(places).map(find).map(load)
    return stream(examples, len(own), num_threads, num_workers)


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
    source: Videos,
    *,
    num_frames: int,
    image_size: int,
    batch_size: int,
    num_threads: int | None = None,
    num_workers: int = 0,
    rows: Sequence[int] | None = None,
) -> EvalBatches:
    """Every example once, in order, centre-cropped; the last batch is padded.

    Rows of padding have `mask` False, `example_id` -1 and labels -1. All processes get the same
    number of batches.

    Args:
        source: the split.
        num_frames: T, the middle of each of T equal segments; a video with fewer frames repeats
            its last.
        image_size: S.
        batch_size: B, over all processes.
        num_threads: threads that load examples; as many as cores when None.
        num_workers: processes that load batches instead of threads; 0 for none.
        rows: which rows of every batch to load; all by default.

    Returns:
        Batches (see the module), re-iterable.

    Raises:
        UserError: while iterating, as `train_batches`.
    """
    own = _own_rows(rows, batch_size)
    num_batches = -(-len(source) // batch_size)
    places = _OwnPlaces(batch_size, own, 0, num_batches)
    load = _EvalLoader(source, num_frames, image_size)
    examples = grain.MapDataset.source(places).map(load)

    def start() -> Iterator[Batch]:
        return stream(examples, len(own), num_threads, num_workers)

    return EvalBatches(start, num_batches)
