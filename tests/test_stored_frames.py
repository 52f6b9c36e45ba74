"""Frames are read one by one: what is not asked for is not read."""

import concurrent.futures
import itertools
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ar_net_jax.data.builder import VideoBuilder, VideoConfig
from ar_net_jax.data.sampling import eval_indices
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.storing import frames as frames_module
from ar_net_jax.data.storing.frames import FrameFiles, StoredFrames
from ar_net_jax.data.storing.shards import Shard, StoredVideo, Work
from ar_net_jax.data.videos import Video


class Stored(VideoBuilder):
    """A data set whose frame files are made by the test."""

    name = "stored"

    def list_classes(self) -> list[str]:
        """Two."""
        return ["a", "b"]


def write_set(folder: Path, videos: Sequence[Sequence[bytes]]) -> Path:
    """Stores videos of a split `train`, a frame file for each; returns the data set's folder."""
    work, stored = Work(folder / "work"), []
    for number, frames in enumerate(videos):
        video = Video(f"v{number}", Path("/v"), (number % 2,))
        shard = Shard("train", number, len(videos), (video,), 0)
        stored += work.write(shard, lambda _, frames=frames: frames, lambda: None).stored
    return write_index(folder, stored, work.frames)


def write_index(folder: Path, stored: list[StoredVideo], frames: Path) -> Path:
    """An index of stored videos over the frame files of a folder."""
    builder = Stored(data_dir=folder, config=VideoConfig(name="x"))
    finish = lambda path: frames.rename(path / "frames")  # noqa: E731
    builder.write_index({"train": stored}, {"train": len(stored)}, finish)
    return Path(builder.data_path)


def _bytes_read() -> int:
    told = Path("/proc/self/io").read_text().splitlines()
    return int(told[0].removeprefix("rchar: "))


@pytest.fixture(scope="module")
def videos() -> list[list[bytes]]:
    rng = np.random.default_rng(0)
    return [[rng.bytes(int(size)) for size in rng.integers(1, 3000, n)] for n in (40, 1, 300)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, videos: list[list[bytes]]) -> VideoSource:
    return VideoSource(write_set(tmp_path_factory.mktemp("set"), videos), "train")


def test_every_frame_is_what_was_stored(source: VideoSource, videos: list[list[bytes]]) -> None:
    assert len(source) == 3
    for index, frames in enumerate(videos):
        stored = source[index]["frames"]
        assert isinstance(stored, StoredFrames) and len(stored) == len(frames)
        assert list(stored) == frames
        assert stored[-1] == frames[-1] and stored[3:9:2] == frames[3:9:2]
        for outside in (len(frames), -len(frames) - 1):
            with pytest.raises(IndexError):
                stored[outside]
    assert stored[np.int64(5)] == frames[5]


def test_threads_and_other_processes_read_the_same(
    source: VideoSource, videos: list[list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pickle.loads(pickle.dumps(source))
    assert sent.identity == source.identity
    # So few that files are closed while others read from them.
    monkeypatch.setattr(frames_module, "_most_open", lambda: 1)
    rng = np.random.default_rng(1)
    places = [(v, int(rng.integers(len(videos[v])))) for v in rng.integers(0, 3, 3000).tolist()]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda place: sent[place[0]]["frames"][place[1]], places))
    assert read == [videos[video][frame] for video, frame in places]


def test_no_more_files_are_open_than_may_be(
    source: VideoSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames_module, "_most_open", lambda: 2)
    sent = pickle.loads(pickle.dumps(source))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for index in (0, 1, 2, 0, 1, 2):
        assert sent[index]["frames"][0]
    # Two for each, and the index of the videos.
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2 * 2 + 1


def test_a_clip_reads_its_own_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = rng.bytes(28_000)
    work = Work(tmp_path)
    video = Video("v", Path("/v"), (0,))
    for number, count in enumerate((117, 3500)):
        shard, stream = Shard("train", number, 2, (video,), 0), itertools.repeat(frame, count)
        work.write(shard, lambda _, stream=stream: stream, lambda: None)
    files = FrameFiles(work.frames, "train", 2)
    for number, count in enumerate((117, 3500)):
        frames, wanted = StoredFrames(files, number, 0, count), eval_indices(count, 16).tolist()
        for most in (1.01, 1.01):  # For the first time, and when the files are open.
            before = _bytes_read()
            assert sum(len(frames[index]) for index in wanted) == 16 * len(frame)
            assert _bytes_read() - before < most * 16 * len(frame)
