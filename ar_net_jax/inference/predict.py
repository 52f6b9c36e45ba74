"""Videos classified by a trained model, with what was decided about each frame of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.config.model import Convention
from ar_net_jax.data.video import read_video
from ar_net_jax.inference.model import Model
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
    """

    time: float
    action: str
    description: str
    left_out: bool
    covered: bool


@dataclass(frozen=True)
class PredictedVideo:
    """What a model makes of a video.

    Attributes:
        path: of the file.
        classes: the most likely ones, best first.
        frames: those that were sampled.
        gflops: that the video needed.
        gflops_convention: how they are counted.
    """

    path: str
    classes: tuple[PredictedClass, ...]
    frames: tuple[DecidedFrame, ...]
    gflops: float
    gflops_convention: Convention


def predict_videos(
    model: Model, paths: Iterable[str], class_names: Sequence[str], *, top: int = 5
) -> Iterator[PredictedVideo]:
    """Classifies video files one after the other.

    Frames are taken as in evaluation: the middle of equal segments of time, the centre of each
    picture. Decisions are the most likely ones (argmax).

    Args:
        model: what classifies.
        paths: of files that FFmpeg reads.
        class_names: of the model's classes.
        top: how many classes to name.

    Yields:
        One for each file.

    Raises:
        UserError: a file that cannot be read.
    """
    method, length = model.method, model.config.data.num_frames
    for path in paths:
        frames, times = read_video(path, num_frames=length, size=method.image_size)
        result = model(frames[None], policy="argmax")
        yield PredictedVideo(
            path=path,
            classes=_best_classes(np.asarray(result.logits[0]), class_names, top),
            frames=_decisions(method, np.asarray(result.actions), times),
            gflops=float(result.gflops[0]),
            gflops_convention=method.config.gflops_convention,
        )


def _best_classes(logits: np.ndarray, names: Sequence[str], top: int) -> tuple[PredictedClass, ...]:
    """The most likely classes of a video, best first, from its logits [C]."""
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(logits)))
    best = np.argsort(-probabilities, kind="stable")[:top]
    return tuple(PredictedClass(int(i), names[i], float(probabilities[i])) for i in best)


def _decisions(
    method: Method[Any, Any], actions: np.ndarray, times: np.ndarray
) -> tuple[DecidedFrame, ...]:
    """What was done with each frame of one video.

    Args:
        method: of the model.
        actions: int32 [1, T], a skip repeated on the frames that it covers.
        times: float64 [T], seconds.
    """
    choices = method.choices
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
        )
        for time, action, held in zip(times, actions[0], covered[0], strict=True)
    )
