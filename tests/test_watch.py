"""`arnet watch`: window after window it sees what `arnet predict` sees, and tells what it does."""

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import rich.console
from saved_models import AR_NET, UNIFORM, save_random_model, write_noise
from stream_server import free_port, serving

from ar_net_jax.cli.main import main
from ar_net_jax.data.feed import FeedFrame, Lost
from ar_net_jax.inference.model import load
from ar_net_jax.inference.predict import PredictedVideo, Windowing, predict_videos
from ar_net_jax.inference.watch import Watcher
from ar_net_jax.reporting.watch_display import WatchDisplay

FPS = 8
NAMES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_noise(path, 48, FPS)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_random_model(folder, AR_NET)
    return folder


class _Picture:
    """Stands for a decoded frame: grey, as bright as it is told."""

    def __init__(self, level: int) -> None:
        self._level = level

    def pixels(self) -> np.ndarray:
        return np.full((32, 40, 3), self._level, np.uint8)


def _frame(at: float, level: int = 0) -> FeedFrame:
    return FeedFrame(at, _Picture(level))  # type: ignore[arg-type]


def _status(argv: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_windows_are_those_of_predict(run: Path, clip: Path) -> None:
    model = load(run)
    (expected,) = predict_videos(model, [str(clip)], NAMES, top=3, windowing=Windowing(2.0, 2.0))
    assert isinstance(expected, PredictedVideo)
    watcher = Watcher(model, NAMES, seconds=2.0)
    found = []
    with av.open(str(clip)) as video:
        for frame in video.decode(video=0):
            picture = _Picture(0)
            picture.pixels = lambda frame=frame: frame.to_ndarray(format="rgb24")  # type: ignore[method-assign]
            found += watcher.take(FeedFrame(frame.time, picture))  # type: ignore[arg-type]
    found += watcher.finish()
    assert len(found) == len(expected.windows) == 3
    for one, other in zip(found, expected.windows):
        assert (one.start, one.end) == pytest.approx((other.start, other.end))
        assert [f.action for f in one.frames] == [f.action for f in other.frames]
        assert [f.covered for f in one.frames] == [f.covered for f in other.frames]
        assert [f.time for f in one.frames] == pytest.approx([f.time for f in other.frames])
        assert one.gflops == pytest.approx(other.gflops)
        for mine, theirs in zip(one.classes, other.classes):
            assert mine.name == theirs.name
            assert mine.probability == pytest.approx(theirs.probability, rel=1e-3)
    assert watcher.frames == 24
    assert watcher.gflops == pytest.approx(expected.gflops)
    most = 24 * model.method.choice_gflops().max()
    assert watcher.skipped_work == pytest.approx(1 - expected.gflops / most)


def test_a_gap_begins_a_new_window(run: Path) -> None:
    watcher = Watcher(load(run), NAMES, seconds=8.0)
    assert not [w for second in range(4) for w in watcher.take(_frame(float(second)))]
    (early,) = watcher.take(_frame(100.0))
    assert (early.start, early.end, len(early.frames)) == (0.0, 8.0, 3)
    assert watcher.window.start == 100.0 and not watcher.window.frames


def test_a_lost_stream_ends_its_window(run: Path) -> None:
    watcher = Watcher(load(run), NAMES, seconds=8.0)
    for second in range(3):
        watcher.take(_frame(float(second)))
    (window,) = watcher.finish()
    assert (window.start, window.end, len(window.frames)) == (0.0, 3.0, 3)
    assert watcher.finish() == []
    watcher.take(_frame(5.0))
    assert watcher.window.start == 5.0


def test_a_file_is_watched_and_written(
    run: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "seen.mp4"
    argv = ["watch", f"--workdir={run}", str(clip), "--fast", "--window=4", f"--video={target}"]
    main(argv)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:18] for line in lines[:2]] == ["00:00.0 to 00:04.0", "00:04.0 to 00:06.0"]
    assert lines[2].startswith("48 frames, 0 dropped; the model was shown 12 for ")
    assert lines[3] == f"annotated: {target}"
    with av.open(str(target)) as video:
        times = [frame.time for frame in video.decode(video=0)]
    assert times == pytest.approx(np.arange(48) / FPS, abs=1e-3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["none.mp4"], "none.mp4: no such file"),
        (["clip.mp4", "--window=0"], "--window: must be a number of seconds above 0"),
        (["clip.mp4", "--video=x.avi"], "--video=x.avi: give a name that ends in .mp4"),
        (["clip.mp4", "--video=./clip.mp4"], "--video=./clip.mp4: would be written over"),
        (["clip.mp4", "--video=no/x.mp4"], "there is no folder no"),
        (["text.mp4"], "text.mp4: "),
        (["clip.mp4", "--config.seed=1"], "--config.seed=1: a trained model is used as it is"),
    ],
)
def test_bad_input_is_one_line(
    run: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").symlink_to(clip)
    Path("text.mp4").write_text("no video")
    assert _status(["watch", f"--workdir={run}", *flags]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "text.mp4"]


def test_a_method_that_cannot_stream_is_refused_by_name(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_random_model(tmp_path, UNIFORM, method="uniform")
    assert _status(["watch", f"--workdir={tmp_path}", str(clip)]) == 1
    assert "'uniform' does not take a video frame by frame" in capsys.readouterr().err


class _TwoFrames:
    """Stands for a feed of two frames and a loss between them."""

    rate, received, dropped = 8.0, 2, 5

    def __iter__(self) -> Iterator[FeedFrame | Lost]:
        yield _frame(0.0)
        yield Lost("cable [/out]", 1, 5, 2.0)
        yield _frame(1.0)


def test_the_terminal_shows_a_panel_and_markup_stays_text(run: Path) -> None:
    written = io.StringIO()
    console = rich.console.Console(file=written, force_terminal=True, width=100, color_system=None)
    watcher, feed = Watcher(load(run), ["[red]a", "b", "c", "d"], seconds=1.0), _TwoFrames()
    with WatchDisplay("[x].mp4", feed, watcher, console) as display:  # type: ignore[arg-type]
        for item in feed:
            if isinstance(item, Lost):
                display.lost(item)
            else:
                watcher.take(item)
                display.taken()
    shown = written.getvalue()
    assert "[x].mp4: lost (cable [/out]); trying again in 2 s (1 of 5)" in shown
    for part in ("5 of 2 frames", "skipped work", "frames/s", "label", "decisions"):
        assert part in shown


def test_ctrl_c_leaves_a_whole_file(
    run: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts = iter(range(100))

    def taken(self: WatchDisplay) -> None:
        if next(counts) == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(WatchDisplay, "taken", taken)
    target = tmp_path / "seen.mkv"
    argv = ["watch", f"--workdir={run}", str(clip), "--fast", f"--video={target}"]
    assert _status(argv) == 130
    printed = capsys.readouterr()
    assert printed.err == "arnet watch: stopped watching\n"
    assert "dropped; the model was shown" in printed.out
    with av.open(str(target)) as video:
        assert len(list(video.decode(video=0))) == 21


@pytest.mark.slow
def test_a_stream_that_is_cut_and_comes_back(run: Path, clip: Path, tmp_path: Path) -> None:
    """The whole command: lines, status and the file, which is whole after all."""
    port, target = free_port(), tmp_path / "seen.mp4"
    address = f"tcp://127.0.0.1:{port}"
    command = [sys.executable, "-m", "ar_net_jax", "watch", f"--workdir={run}", address]
    with serving(clip, port) as server:
        time.sleep(1)
        watching = subprocess.Popen(
            [*command, "--window=1", f"--video={target}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watching.stdout is not None
        first = watching.stdout.readline()
        server.kill()
    with serving(clip, port):
        rest, faults = watching.communicate(timeout=120)
    assert first.startswith("00:00.0 to 00:01.0")
    told = rest.splitlines()
    lost = [line for line in told if line.startswith(f"{address}: lost (")]
    assert "trying again in 1 s (1 of 5)" in lost[0] and "(5 of 5)" in lost[-1]
    assert len([line for line in told if " to " in line and "GFLOPs" in line]) >= 6
    assert watching.returncode == 1
    (line,) = faults.strip().splitlines()
    assert line.startswith(f"arnet watch: {address}: lost (") and "not back after 5 tries" in line
    with av.open(str(target)) as video:
        times = [frame.time for frame in video.decode(video=0)]
    assert len(times) > 48 and times == sorted(times)
