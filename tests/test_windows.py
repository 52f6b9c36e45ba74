"""Windows of a long video hold the frames that are on show in the middles of their parts."""

from pathlib import Path

import numpy as np
import pytest

from ar_net_jax.data.listing.inputs import expand_inputs
from ar_net_jax.data.reading_ahead import read_ahead
from ar_net_jax.data.video import read_video
from ar_net_jax.data.windows import plan_windows, read_windows
from ar_net_jax.errors import UserError
from ar_net_jax.reporting.video_file import VideoFile

# Brightness by which a frame is known again after coding.
STEP = 5


def _write(path: Path, times: np.ndarray) -> None:
    with VideoFile(path, "matroska", (32, 32), 10.0) as file:
        for number, time in enumerate(times):
            file.write(np.full((32, 32, 3), STEP * number, np.uint8), float(time))


def _numbers(frames: np.ndarray) -> list[int]:
    return [round(frame.mean() / STEP) for frame in frames]


@pytest.mark.parametrize(
    ("seconds", "length", "stride", "expected"),
    [
        (60, 30, 30, [(0, 30), (30, 60)]),
        (60.01, 30, 30, [(0, 30), (30, 60.01)]),
        (65, 30, 30, [(0, 30), (30, 60), (60, 65)]),
        (50, 20, 30, [(0, 20), (30, 50)]),
        (55, 20, 30, [(0, 20), (30, 50)]),
        (0, 10, 5, [(0, 0)]),
    ],
)
def test_windows_cover_the_video(
    seconds: float, length: float, stride: float, expected: list[tuple[float, float]]
) -> None:
    assert plan_windows(seconds, length, stride) == expected


def test_one_window_is_the_whole_video(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    _write(path, np.arange(45) / 10)
    (window,) = read_windows(path, length=100, stride=100, num_frames=7, size=24)
    frames, times = read_video(path, num_frames=7, size=24)
    np.testing.assert_array_equal(window.frames, frames)
    np.testing.assert_allclose(window.times, times)
    assert (window.start, window.end) == (0, pytest.approx(4.5, abs=2e-3))


def test_frames_of_uneven_times_are_those_on_show(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "x.mkv"
    times = np.concatenate([[0], np.cumsum(rng.uniform(0.02, 0.4, 49))]).round(3)
    _write(path, times)
    windows = list(read_windows(path, length=3, stride=1, num_frames=6, size=24))
    assert len(windows) > 5
    for number, window in enumerate(windows[:-1]):
        wanted = number + (np.arange(6) + 0.5) * 3 / 6
        shown = np.searchsorted(times, wanted + 1e-6, side="right") - 1
        assert _numbers(window.frames) == shown.tolist()
        np.testing.assert_allclose(window.times, times[shown], atol=1e-3)
    assert windows[-1].end >= times[-1]


def test_a_damaged_video_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    _write(path, np.arange(50) / 10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(UserError, match="x.mkv"):
        list(read_windows(path, length=2, stride=1, num_frames=4, size=24))


def test_reading_ahead_keeps_order_and_holds_little() -> None:
    made: list[tuple[int, int]] = []

    def read(source: int):  # noqa: ANN202
        for item in range(50):
            made.append((source, item))
            yield item
            if source == 1 and item == 3:
                raise ValueError("broken")

    found = []
    for source, items in read_ahead(range(5), read, jobs=2):
        try:
            found.append((source, list(items)))
        except ValueError:
            found.append((source, "broken"))
        ahead = {other for other, _ in made if other > source}
        assert len(ahead) <= 1
        assert max((item for other, item in made if other > source), default=0) <= 3
    whole = list(range(50))
    assert found == [(0, whole), (1, "broken"), (2, whole), (3, whole), (4, whole)]


def test_names_stand_for_files_folders_and_patterns(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/one.mp4", "a/b/two.mkv", "a/b/notes.txt", "a/.hidden.mp4", "[3].mp4"):
        (tmp_path / name).write_bytes(b"")
    inputs = (f"{tmp_path}/[3].mp4", f"{tmp_path}/**/*", f"{tmp_path}/a", f"{tmp_path}/no*.mp4")
    files, faults = expand_inputs(inputs)
    names = [path.relative_to(tmp_path).as_posix() for path in files]
    assert names == ["[3].mp4", "a/b/two.mkv", "a/one.mp4"]
    assert faults == {inputs[3]: f"{inputs[3]}: no video has such a name"}
    assert expand_inputs([f"{tmp_path}/a/b/notes.txt"])[0], "named by itself, it is tried"
