"""Videos classified by a trained model, with what was decided about each frame of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ar_net_jax.config.model import Convention
from ar_net_jax.data.reading_ahead import read_ahead
from ar_net_jax.data.video import read_video
from ar_net_jax.data.windows import Window, read_windows
from ar_net_jax.errors import UserError
from ar_net_jax.inference.model import Model
from ar_net_jax.inference.probabilities import class_probabilities
from ar_net_jax.inference.timeline import TimelinePart, make_timeline
from ar_net_jax.methods import Method
from ar_net_jax.ops.actions import apply_skips


@dataclass(frozen=True)
class PredictedClass:
    """A class of a video.

    Attributes:
        index: of the class.
        name: of the class.
        probability: between 0 and 1.
    """

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class DecidedFrame:
    """What was decided about a frame.

    Attributes:
        time: in seconds.
        action: the choice's short name, such as `skip 4`.
        description: as a person reads it, such as "skips 4".
        left_out: whether it adds nothing to the prediction.
        covered: whether it is left out by an earlier frame's skip.
        gflops: its share of what its video, or window, needed; those of all frames sum to that.
    """

    time: float
    action: str
    description: str
    left_out: bool
    covered: bool
    gflops: float


@dataclass(frozen=True)
class PredictedWindow:
    """What a model makes of a stretch of a video.

    Attributes:
        start: in seconds.
        end: in seconds.
        classes: the most likely ones, best first.
        frames: those that were sampled.
        gflops: that the window needed.
    """

    start: float
    end: float
    classes: tuple[PredictedClass, ...]
    frames: tuple[DecidedFrame, ...]
    gflops: float


@dataclass(frozen=True)
class PredictedVideo:
    """What a model makes of a video.

    Attributes:
        path: of the file.
        classes: the most likely ones, best first; of a video in windows, on their average.
        frames: those that were sampled; empty for a video in windows, each of which has its own.
        gflops: that the video needed.
        gflops_convention: how they are counted.
        windows: in the order of time; empty where the video was seen as a whole.
        timeline: which class holds when, by the windows.
    """

    path: str
    classes: tuple[PredictedClass, ...]
    frames: tuple[DecidedFrame, ...]
    gflops: float
    gflops_convention: Convention
    windows: tuple[PredictedWindow, ...] = ()
    timeline: tuple[TimelinePart, ...] = ()


@dataclass(frozen=True)
class UnreadVideo:
    """A file that could not be read.

    Attributes:
        path: of the file.
        reason: why, with the file's name.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class Windowing:
    """How a long video is cut into windows.

    Attributes:
        length: of a window in seconds.
        stride: seconds from the start of a window to that of the next.
    """

    length: float
    stride: float


def predict_videos(
    model: Model,
    paths: Iterable[str],
    class_names: Sequence[str],
    *,
    top: int = 5,
    jobs: int = 1,
    windowing: Windowing | None = None,
) -> Iterator[PredictedVideo | UnreadVideo]:
    """Classifies video files one after the other.

    Frames are taken as in evaluation: the middle of equal segments of time, the centre of each
    picture. Decisions are the most likely ones (argmax).

    Args:
        model: what classifies.
        paths: of files that FFmpeg reads.
        class_names: of the model's classes.
        top: how many classes to name.
        jobs: how many files are decoded at once.
        windowing: the windows that each video is classified in; None for the whole at once.

    Yields:
        One for each file, in their order. A file that cannot be read does not end it.
    """
    length, size = model.config.data.num_frames, model.method.image_size

    def read(path: str) -> Iterator[Window]:
        if windowing is not None:
            return read_windows(
                path,
                length=windowing.length,
                stride=windowing.stride,
                num_frames=length,
                size=size,
            )
        frames, times = read_video(path, num_frames=length, size=size)
        return iter([Window(0.0, float(times[-1]), frames, times)])

    for path, clips in read_ahead(paths, read, jobs):
        try:
            seen = [_predict(model, clip, class_names, top) for clip in clips]
        except UserError as error:
            yield UnreadVideo(path, str(error))
            continue
        yield _joined(model, path, seen, class_names, top, in_windows=windowing is not None)


def _predict(
    model: Model, clip: Window, names: Sequence[str], top: int
) -> tuple[PredictedWindow, np.ndarray]:
    """What a model makes of a clip, and the probabilities [C] of all classes."""
    result = model(clip.frames[None], policy="argmax")
    probabilities = class_probabilities(model.config, np.asarray(result.logits[0]))
    gflops = float(result.gflops[0])
    window = PredictedWindow(
        clip.start,
        clip.end,
        best_classes(probabilities, names, top),
        _decisions(model.method, np.asarray(result.actions), clip.times, gflops),
        gflops,
    )
    return window, probabilities


def _joined(
    model: Model,
    path: str,
    seen: Sequence[tuple[PredictedWindow, np.ndarray]],
    names: Sequence[str],
    top: int,
    *,
    in_windows: bool,
) -> PredictedVideo:
    """A video from its windows, or from the one clip that stands for it."""
    windows = tuple(window for window, _ in seen)
    probabilities = [row for _, row in seen]
    convention = model.method.config.gflops_convention
    if not in_windows:
        (only,) = windows
        return PredictedVideo(path, only.classes, only.frames, only.gflops, convention)
    return PredictedVideo(
        path,
        best_classes(np.mean(probabilities, axis=0), names, top),
        (),
        sum(window.gflops for window in windows),
        convention,
        windows,
        make_timeline([(w.start, w.end) for w in windows], probabilities, names),
    )


def best_classes(
    probabilities: np.ndarray, names: Sequence[str], top: int
) -> tuple[PredictedClass, ...]:
    """The most likely classes, best first.

    Args:
        probabilities: [C].
        names: of the C classes.
        top: how many, at most.
    """
    best = np.argsort(-probabilities, kind="stable")[:top]
    return tuple(PredictedClass(int(i), names[i], float(probabilities[i])) for i in best)


def _decisions(
    method: Method[Any, Any], actions: np.ndarray, times: np.ndarray, gflops: float
) -> tuple[DecidedFrame, ...]:
    """What was done with each frame of one video.

    Args:
        method: of the model.
        actions: int32 [1, T], a skip repeated on the frames that it covers.
        times: float64 [T], seconds.
        gflops: that the video needed.
    """
    choices = method.choices
    costs = method.choice_gflops()[actions[0]]
    # What some methods compute for a video as a whole is spread over its frames.
    shares = (
        gflops * costs / costs.sum() if costs.any() else np.full(costs.shape, gflops / len(costs))
    )
    covered = np.zeros(actions.shape, bool)
    if choices.skip_lengths:
        covered = np.asarray(apply_skips(actions, choices)[1])
    return tuple(
        DecidedFrame(
            time=float(time),
            action=choices.names[action],
            description=method.tell(int(action)),
            left_out=choices.leaves_out(int(action)),
            covered=bool(held),
            gflops=float(share),
        )
        for time, action, held, share in zip(times, actions[0], covered[0], shares, strict=True)
    )
