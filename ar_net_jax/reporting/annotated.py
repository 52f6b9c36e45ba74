"""A video with what was predicted and decided written on its pictures."""

import bisect
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from ar_net_jax.data.decoding.faults import naming
from ar_net_jax.data.decoding.reader import VideoReader
from ar_net_jax.data.decoding.timestamps import frame_rate
from ar_net_jax.errors import UserError
from ar_net_jax.inference.predict import PredictedVideo, PredictedWindow
from ar_net_jax.reporting.overlay import Caption, Cell, Overlay
from ar_net_jax.reporting.video_file import VideoFile, container_of
from ar_net_jax.runtime.storage import check_output, write_whole


def annotate_video(video: PredictedVideo, target: Path, costliest: float) -> None:
    """Writes a video again with its label, decisions and running GFLOPs; sound is left out.

    Args:
        video: what was predicted.
        target: the file to write, whole or not at all.
        costliest: GFLOPs of the costliest decision about a frame, beside which others are drawn.

    Raises:
        UserError: the video cannot be read any more, or the file not be written.
    """
    container = container_of("--video", target)
    try:
        write_whole(
            target, lambda fresh: _write(_Captions(video, costliest), Path(fresh), container)
        )
    except (OSError, av.FFmpegError) as error:
        raise UserError(
            f"{target}: cannot be written ({error.strerror or type(error).__name__})"
        ) from None


def _write(captions: "_Captions", path: Path, container: str) -> None:
    with contextlib.ExitStack() as stack:
        overlay: Overlay | None = None
        for pixels, time, rate in _pictures(captions.path):
            if overlay is None:
                overlay = Overlay(pixels.shape[1], pixels.shape[0])
                file = stack.enter_context(VideoFile(path, container, overlay.size, rate))
            file.write(overlay.draw(pixels, captions.at(time)), time)


def _pictures(path: str) -> Iterator[tuple[np.ndarray, float, float]]:
    """Every frame's pixels and time, and the frame rate; its errors are those of reading alone."""
    with naming(path), contextlib.closing(VideoReader(path, threads=True)) as reader:
        rate = float(frame_rate(reader.stream))
        for frame in reader.frames():
            yield frame.pixels(), frame.time, rate


class _Captions:
    """What is to be told at each time of a video."""

    def __init__(self, video: PredictedVideo, costliest: float) -> None:
        self.path = video.path
        self._video, self._costliest = video, costliest
        self._windows = video.windows or (_as_window(video),)
        self._starts = [window.start for window in self._windows]
        costs = [window.gflops for window in self._windows]
        self._spent = [0.0, *itertools.accumulate(costs)]

    def at(self, time: float) -> Caption:
        """The caption of the picture at a time."""
        number = max(0, bisect.bisect_right(self._starts, time) - 1)
        window = self._windows[number]
        done = bisect.bisect_right([frame.time for frame in window.frames], time)
        decision = "not looked at yet"
        if done:
            frame = window.frames[done - 1]
            covered = " (covered)" if frame.covered else ""
            decision = f"{frame.time:.1f} s: {frame.description}{covered}"
        running = self._spent[number] + sum(frame.gflops for frame in window.frames[:done])
        cost = f"{running:.3g} of {self._video.gflops:.3g} GFLOPs ({self._video.gflops_convention})"
        cells, now = decision_strip(window, time, self._costliest)
        return Caption(self._label(time), (decision, cost), cells, now)

    def _label(self, time: float) -> str:
        for part in self._video.timeline:
            if part.start <= time < part.end:
                return f"{part.name} {part.probability:.0%}"
        best = self._video.classes[0]
        return f"{best.name} {best.probability:.0%}"


def _as_window(video: PredictedVideo) -> PredictedWindow:
    """A video that was seen as a whole, as its one window."""
    # Frames are from the middles of equal parts: the end is as far behind the last as the start
    # is before the first.
    end = video.frames[-1].time + video.frames[0].time
    return PredictedWindow(0.0, end, video.classes, video.frames, video.gflops)


def decision_strip(
    window: PredictedWindow, time: float, costliest: float
) -> tuple[tuple[Cell, ...], float]:
    """A window's decisions for a `Caption`, and where on their strip a time is.

    Args:
        window: with its decisions.
        time: in seconds.
        costliest: GFLOPs of the costliest decision about a frame.
    """
    frames, span = window.frames, max(window.end - window.start, 1e-9)

    def place(at: float) -> float:
        return min(max((at - window.start) / span, 0.0), 1.0)

    cells = tuple(
        Cell(place(frame.time), None if frame.left_out else min(frame.gflops / costliest, 1.0))
        for frame in frames
    )
    return cells, place(time)


def plan_targets(flag: str, output: str, files: Sequence[Path]) -> dict[str, Path]:
    """Where the annotated video of each file goes.

    Args:
        flag: that named the output, for messages.
        output: a file with the suffix of a video, for one video; else a folder, which is made
            where there is none, and gets NAME.mp4 for each.
        files: the videos.

    Returns:
        The target of each by its path.

    Raises:
        UserError: a file for several videos, a target that is one of the videos, or one that cannot
            be written.
    """
    folder = Path(output)
    if folder.suffix and not folder.is_dir():
        container_of(flag, folder)
        if len(files) > 1:
            raise UserError(f"{flag}={output}: {len(files)} videos need a folder, not a file")
        targets = {str(files[0]): folder}
    else:
        names: dict[str, None] = {}
        for path in files:
            # Videos of one name, from several folders or in several forms, get a number.
            numbered = (f"{path.stem}-{number}" for number in itertools.count(2))
            names[next(n for n in itertools.chain([path.stem], numbered) if n not in names)] = None
        targets = {str(path): folder / f"{name}.mp4" for path, name in zip(files, names)}
        folder.mkdir(parents=True, exist_ok=True)
    sources = {path.resolve() for path in files}
    for target in targets.values():
        check_output(flag, target)
        if target.resolve() in sources:
            raise UserError(f"{flag}={output}: {target} would be written over; give another place")
    return targets
