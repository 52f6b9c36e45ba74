"""What a model made of each video of a split."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ar_net_jax.data.source import VideoSource
from ar_net_jax.evaluation.evaluate import Evaluation
from ar_net_jax.methods import Method


@dataclass(frozen=True)
class VideoFigures:
    """What a model made of a video.

    Attributes:
        name: of the video.
        labels: names of its classes, the main one first.
        predicted: name of the best scored class.
        score: of that class, between 0 and 1.
        right: whether it is one of the labels.
        rank: of the main class among all, from 1; of equal scores the smaller index comes first.
        gflops: that the video needed, in the model's convention.
        frames: how many frames got each choice, by name; None where there is one choice.
    """

    name: str
    labels: tuple[str, ...]
    predicted: str
    score: float
    right: bool
    rank: int
    gflops: float
    frames: dict[str, int] | None


def figures_by_video(
    method: Method[Any, Any], evaluation: Evaluation, videos: VideoSource, names: list[str]
) -> Iterator[VideoFigures]:
    """Figures of every video, in the order of the split.

    Args:
        method: of the model.
        evaluation: of it on the split.
        videos: the split; frames are not read.
        names: of the model's classes.
    """
    found, choices = evaluation.predictions, method.choices.names
    decided = found.actions is not None and len(choices) > 1
    for i, scores in enumerate(found.scores):
        labels = [int(k) for k in found.labels[i] if k >= 0]
        ranked = np.argsort(-scores, kind="stable").tolist()
        frames = None
        if decided:
            counts = np.bincount(np.asarray(found.actions)[i], minlength=len(choices))
            frames = dict(zip(choices, counts.tolist(), strict=True))
        yield VideoFigures(
            name=videos[i]["name"],
            labels=tuple(names[k] for k in labels),
            predicted=names[ranked[0]],
            score=float(scores[ranked[0]]),
            right=ranked[0] in labels,
            rank=ranked.index(labels[0]) + 1,
            gflops=float(evaluation.gflops[i]),
            frames=frames,
        )
