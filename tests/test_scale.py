"""A data set of ActivityNet's shape: 15,000 videos of 3,500 frames, by their index."""

import io
import itertools
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_stored_frames import write_index

from ar_net_jax.data.pipeline import train_batches
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.storing.shards import (
    Shard,
    StoredVideo,
    Work,
    frame_file_name,
    places_file_name,
)
from ar_net_jax.data.videos import Video

VIDEOS, FRAMES, BATCH, PROCESSES = 15_000, 3_500, 16, 8
SECONDS = 2.0


def _batches(source: VideoSource, **options: object):
    settings = {"num_frames": 1, "image_size": 8, "batch_size": BATCH, "seed": 3, "flip": True}
    return train_batches(source, **(settings | options))


def _memory() -> float:
    """MB that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def write_set(folder: Path, videos: int, frames: int) -> Path:
    """Stores videos whose frames are the same file, under as many names; every entry is its own."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (90, 60, 30)).save(buffer, "JPEG")
    work = Work(folder / "work")
    shard = Shard("train", 0, videos, (Video("0", Path("/0"), (0,)),), 0)
    one = work.write(shard, lambda _: itertools.repeat(buffer.getvalue(), frames), lambda: None)
    stored = []
    for number in range(videos):
        stored.append(StoredVideo(str(number), (number % 2,), frames, number, 0, f"{number:032x}"))
        for name in (frame_file_name, places_file_name) if number else ():
            os.link(
                work.frames / name("train", 0, videos), work.frames / name("train", number, videos)
            )
    assert one.stored[0].num_frames == frames
    return write_index(folder, stored, work.frames)


def _epoch_of(job: tuple[Path, int]) -> list[int]:
    """What one of eight processes is given in an epoch: ids, in order."""
    folder, process = job
    source = VideoSource(folder, "train")
    own = range(process * BATCH // PROCESSES, (process + 1) * BATCH // PROCESSES)
    batches = _batches(source, rows=own, num_threads=1)
    whole = itertools.islice(batches, len(source) // BATCH)
    return [int(i) for batch in whole for i in batch["example_id"]]


def _seek_far(source: VideoSource) -> None:
    step = 123_457
    started = time.perf_counter()
    far = _batches(source, first_batch=step)
    there = next(far)
    assert time.perf_counter() - started < SECONDS
    # Two batches before, and on to the same place.
    before = _batches(source, first_batch=step - 2)
    for _ in range(2):
        next(before)
    again = next(before)
    for key in there:
        np.testing.assert_array_equal(there[key], again[key])
    assert len({*there["example_id"].tolist()}) == BATCH


@pytest.mark.parametrize(
    ("videos", "frames"),
    [(160, 35), pytest.param(VIDEOS, FRAMES, marks=pytest.mark.slow)],
)
def test_it_opens_shuffles_and_seeks_at_once_and_processes_share_it(
    tmp_path: Path, videos: int, frames: int
) -> None:
    folder = write_set(tmp_path, videos, frames)
    before, started = _memory(), time.perf_counter()
    source = VideoSource(folder, "train")
    opened = time.perf_counter()
    assert len(source) == videos and len(source[videos - 1]["frames"]) == frames
    next(_batches(source))
    drawn = time.perf_counter()
    assert opened - started < SECONDS and drawn - opened < SECONDS
    _seek_far(source)
    print(
        f"open {opened - started:.2f} s, first batch {drawn - opened:.2f} s, "
        f"{_memory() - before:.0f} MB of {_memory():.0f} for it"
    )
    jobs = [(folder, process) for process in range(PROCESSES)]
    if videos == VIDEOS:
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
            ids = pool.map(_epoch_of, jobs, chunksize=1)
    else:
        ids = [_epoch_of(job) for job in jobs]
    assert len({*itertools.chain(*ids)}) == sum(map(len, ids)), "no video comes twice"
    assert sum(map(len, ids)) == videos // BATCH * BATCH
    for index in range(0, videos, 3):
        assert source[index]["frames"][frames // 2]
    print(f"after frames of many videos {_memory():.0f} MB")
