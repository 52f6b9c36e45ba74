"""Videos classified by a trained model, with what was decided about each frame of them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.data.video import read_video
from ar_net_jax.inference.model import Model
from ar_net_jax.ops.actions import apply_skips


def predict_videos(
    model: Model, paths: Iterable[str], class_names: Sequence[str], *, top: int = 5
) -> Iterator[dict[str, Any]]:
    """Classifies video files one after the other.

    Frames are taken as in evaluation: the middle of equal segments of time, the centre of each
    picture. Decisions are the most likely ones (argmax).

    Args:
        model: what classifies.
        paths: of files that FFmpeg reads.
        class_names: of the model's classes.
        top: how many classes to name.

    Yields:
        For each video, as JSON holds it: `path`; `classes`, the most likely first, with `index`,
        `name` and `probability`; `frames` with `time` in seconds, `action`, and whether the frame
        is `covered` by an earlier skip; `gflops` and `gflops_convention`.

    Raises:
        UserError: a file that cannot be read.
    """
    size, length = model.config.model.image_size, model.config.data.num_frames
    for path in paths:
        frames, times = read_video(path, num_frames=length, size=size)
        result = model(frames[None], policy="argmax")
        yield {
            "path": path,
            "classes": _best_classes(np.asarray(result.logits[0]), class_names, top),
            "frames": _decisions(model.config.model, np.asarray(result.actions), times),
            "gflops": float(result.gflops[0]),
            "gflops_convention": result.gflops_convention,
        }


def _best_classes(logits: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
    """The most likely classes of a video, best first, from its logits [C]."""
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(logits)))
    return [
        {"index": int(i), "name": names[i], "probability": float(probabilities[i])}
        for i in np.argsort(-probabilities, kind="stable")[:top]
    ]


def _decisions(model: ModelConfig, actions: np.ndarray, times: np.ndarray) -> list[dict[str, Any]]:
    """What was done with each frame of one video.

    Args:
        model: its config.
        actions: int32 [1, T], a skip repeated on the frames that it covers.
        times: float64 [T], seconds.
    """
    names = list(model.space.names)
    if model.approach == "multi_scale":
        names = [" + ".join(names)]
    covered = np.zeros(actions.shape, bool)
    # The random policy's skips drop their own frame only.
    if model.approach == "ar_net":
        covered = np.asarray(apply_skips(jnp.asarray(actions), model.space)[1])
    return [
        {"time": float(time), "action": names[action], "covered": bool(held)}
        for time, action, held in zip(times, actions[0], covered[0], strict=True)
    ]
