"""Batches: every example once in an epoch, reproducible, resumable, padded."""

import io
import itertools
import multiprocessing

import numpy as np
import pytest
from PIL import Image

from ar_net_jax.data import pipeline
from ar_net_jax.data.sampling import eval_indices
from ar_net_jax.data.source import VideoExample
from ar_net_jax.errors import UserError


class FakeSource:
    """Videos in memory; the level of a frame tells its place, and reads are counted."""

    split = "train"
    max_labels = 3

    def __init__(self, size: int, frames: int = 20):
        self._size = size
        rng = np.random.default_rng(0)
        texture = rng.integers(0, 40, (80, 104, 3), dtype=np.uint8)
        self._frames = []
        for level in range(frames):
            buffer = io.BytesIO()
            Image.fromarray(texture + np.uint8(10 * level)).save(buffer, "JPEG", quality=90)
            self._frames.append(buffer.getvalue())

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> VideoExample:
        return VideoExample(
            frames=self._frames,
            labels=np.array([4, index % 4], np.int32),
            name=str(index),
            num_frames=len(self._frames),
        )


def _train(source: FakeSource, **changes: object):
    arguments = {"num_frames": 4, "image_size": 32, "batch_size": 4, "seed": 5, "flip": True}
    return pipeline.train_batches(source, **(arguments | changes))


def _take(iterator, count: int) -> list[pipeline.Batch]:
    return list(itertools.islice(iterator, count))


def _assert_same(one: list[pipeline.Batch], other: list[pipeline.Batch]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_shapes_and_types() -> None:
    batch = next(_train(FakeSource(6)))
    expected = {
        "frames": ((4, 4, 32, 32, 3), np.uint8),
        "labels": ((4, 3), np.int32),
        "example_id": ((4,), np.int32),
        "epoch": ((4,), np.int32),
        "mask": ((4,), np.bool_),
        "frame_index": ((4, 4), np.int32),
    }
    assert {k: (v.shape, v.dtype.type) for k, v in batch.items()} == expected
    assert batch["mask"].all()
    for row, example_id in zip(batch["labels"], batch["example_id"], strict=True):
        assert row.tolist() == [4, int(example_id) % 4, -1], "in the order of the example"


def test_every_example_once_in_an_epoch_and_a_new_order_in_the_next() -> None:
    # 7 examples, batches of 4: they straddle the epochs.
    batches = _take(_train(FakeSource(7)), 7)
    ids = np.concatenate([batch["example_id"] for batch in batches]).reshape(4, 7)
    epochs = np.concatenate([batch["epoch"] for batch in batches]).reshape(4, 7)
    np.testing.assert_array_equal(epochs, np.arange(4)[:, None].repeat(7, 1))
    np.testing.assert_array_equal(np.sort(ids, 1), np.tile(np.arange(7), (4, 1)))
    assert len({tuple(row) for row in ids}) > 1


def test_the_seed_decides_everything() -> None:
    source = FakeSource(7)
    _assert_same(_take(_train(source), 3), _take(_train(source, num_threads=1), 3))
    one, other = _take(_train(source), 2), _take(_train(source, seed=6), 2)
    assert any((a["example_id"] != b["example_id"]).any() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("done", [0, 1, 3])
def test_batches_go_on_from_any_number(done: int) -> None:
    source = FakeSource(7)
    whole = _take(_train(source), 6)
    _assert_same(_take(_train(source, first_batch=done), 6 - done), whole[done:])


def test_worker_processes_give_the_same_batches() -> None:
    source = FakeSource(7)
    batches = _train(source, num_workers=2, first_batch=1)
    try:
        _assert_same(_take(batches, 3), _take(_train(source, first_batch=1), 3))
    finally:
        batches.close()


def test_an_example_does_not_depend_on_its_place_in_the_batches() -> None:
    source = FakeSource(6)

    def rows(batch_size: int, count: int) -> dict[tuple[int, int], np.ndarray]:
        found = {}
        for batch in _take(_train(source, batch_size=batch_size), count):
            for i in range(batch_size):
                found[int(batch["epoch"][i]), int(batch["example_id"][i])] = batch["frames"][i]
        return found

    one, other = rows(4, 3), rows(3, 4)
    assert one.keys() == other.keys() and len(one) == 12
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])
    # Another epoch crops and samples an example anew.
    assert any((one[0, i] != one[1, i]).any() for i in range(6))


@pytest.mark.parametrize("shares", [[(0, 1), (2, 3)], [(0, 2), (1, 3)], [(0,), (1, 2, 3)]])
def test_processes_share_the_batches_of_one(shares: list[tuple[int, ...]]) -> None:
    source = FakeSource(7)
    whole = _take(_train(source), 3)
    for rows in shares:
        part = _take(_train(source, rows=rows), 3)
        _assert_same(part, [{k: v[list(rows)] for k, v in batch.items()} for batch in whole])


@pytest.mark.parametrize("rows", [(), (0, 4), (-1,)])
def test_rows_outside_the_batch_are_refused(rows: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rows of a batch"):
        _train(FakeSource(7), rows=rows)


def test_training_frames_come_one_from_each_segment() -> None:
    for batch in _take(_train(FakeSource(5)), 3):
        np.testing.assert_array_equal(batch["frame_index"] // 5, np.tile(np.arange(4), (4, 1)))
        # Frames are brighter by 10 from one to the next.
        levels = batch["frames"].mean((2, 3, 4))
        steps = np.diff(levels) / np.diff(batch["frame_index"])
        np.testing.assert_allclose(steps, 10, atol=1.5)


def _evaluate(source: FakeSource, **changes: object) -> pipeline.EvalBatches:
    arguments = {"num_frames": 4, "image_size": 32, "batch_size": 4}
    return pipeline.eval_batches(source, **(arguments | changes))


def test_evaluation_is_in_order_and_padded() -> None:
    batches = _evaluate(FakeSource(10))
    assert len(batches) == 3
    first = list(batches)
    ids = np.concatenate([batch["example_id"] for batch in first])
    mask = np.concatenate([batch["mask"] for batch in first])
    assert ids.tolist() == [*range(10), -1, -1]
    np.testing.assert_array_equal(mask, ids >= 0)
    assert (first[-1]["labels"][2:] == -1).all() and not first[-1]["frames"][2:].any()
    np.testing.assert_array_equal(first[0]["frame_index"][0], eval_indices(20, 4))
    assert first[-1]["frames"].shape == first[0]["frames"].shape
    _assert_same(list(batches), first)


def test_evaluation_covers_every_example_over_processes() -> None:
    parts = [list(_evaluate(FakeSource(9), rows=rows)) for rows in ((0, 1), (2, 3))]
    assert len(parts[0]) == len(parts[1]) == 3
    ids = [int(i) for part in parts for batch in part for i in batch["example_id"] if i >= 0]
    assert sorted(ids) == list(range(9))


def test_more_threads_than_examples_ahead_is_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    source = FakeSource(3)
    many = list(_evaluate(source, batch_size=1, num_threads=16))
    _assert_same(many, list(_evaluate(source, batch_size=1, num_threads=0)))
    assert not caplog.records


def test_a_short_video_repeats_its_last_frame() -> None:
    (batch,) = _evaluate(FakeSource(1, frames=2), batch_size=1)
    assert batch["frame_index"].tolist() == [[0, 1, 1, 1]]
    np.testing.assert_array_equal(batch["frames"][0, 1], batch["frames"][0, 3])


def test_only_sampled_frames_are_decoded() -> None:
    frames = FakeSource(1).__getitem__(0)["frames"]
    broken = [frame if i in (2, 7) else b"not decoded" for i, frame in enumerate(frames)]
    images = pipeline.decode_jpegs(broken, np.array([2, 7, 7]))
    assert [image.size for image in images] == [(104, 80)] * 3


def test_a_short_video_repeats_its_last_frame_in_training() -> None:
    batch = next(_train(FakeSource(1, frames=2), batch_size=1))
    assert batch["frame_index"].tolist() == [[0, 1, 1, 1]]
    first, *rest = batch["frames"][0]
    assert all((frame == rest[0]).all() for frame in rest) and (first != rest[0]).any()


class DamagedSource(FakeSource):
    """The frames of one video are no JPEGs, or its record cannot be read."""

    def __init__(self, undecodable: int = -1, unreadable: int = -1) -> None:
        super().__init__(4)
        self.undecodable, self.unreadable = undecodable, unreadable

    def __getitem__(self, index: int) -> VideoExample:
        example = super().__getitem__(index)
        if index == self.unreadable:
            raise OSError("crc mismatch")
        return {**example, "frames": [b"?"] * 20} if index == self.undecodable else example


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    "source, message",
    [
        (
            DamagedSource(undecodable=2),
            r"video '2' \(example 2\): a stored frame cannot be decoded \(.*prepare the data",
        ),
        (
            DamagedSource(unreadable=1),
            r"split 'train', example 1: the stored record cannot be read \(crc mismatch\)",
        ),
    ],
)
def test_a_damaged_example_is_named(source: DamagedSource, message: str, num_workers: int) -> None:
    with pytest.raises(UserError, match=message):
        list(_evaluate(source, num_workers=num_workers))


def test_a_worker_process_that_dies_is_reported() -> None:
    batches = _train(FakeSource(7), num_workers=1)
    next(batches)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(UserError, match=r"has died \(.*exit code -9\)"):
        _take(batches, 20)
