"""What a model scores, takes for what, and decides on each class of a split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ar_net_jax.evaluation.metrics import action_usage, average_precision


@dataclass(frozen=True)
class ClassFigures:
    """What a model scores and computes on the videos of a class.

    Attributes:
        name: of the class.
        videos: that carry it, among their labels.
        average_precision: in percent; None where no video carries it.
        top1: share in percent, of the videos whose first label it is, that are taken for it; None
            where there is none.
        gflops: mean over its videos, in the model's convention; None likewise.
        usage: share of its videos' frames by choice; None where there is one choice, or no video.
    """

    name: str
    videos: int
    average_precision: float | None
    top1: float | None
    gflops: float | None
    usage: dict[str, float] | None


def figures_by_class(
    names: Sequence[str],
    scores: Float[np.ndarray, "n c"],
    labels: Int[np.ndarray, "n k"],
    gflops: Float[np.ndarray, " n"],
    actions: Int[np.ndarray, "n t"] | None = None,
    choices: Sequence[str] = (),
) -> list[ClassFigures]:
    """Figures of every class.

    Args:
        names: of the C classes.
        scores: float [N, C], as of `Predictions`.
        labels: int [N, K], padded with -1, the first of each video its main one.
        gflops: float [N], of each video.
        actions: int [N, T], the choice made for every frame; None where that was not recorded.
        choices: names of the choices.

    >>> scores, labels = np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([[0], [1]])
    >>> [one.top1 for one in figures_by_class(["a", "b"], scores, labels, np.ones(2))]
    [100.0, 0.0]
    """
    best, found = scores.argmax(axis=1), []
    decided = actions is not None and len(choices) > 1
    for k, name in enumerate(names):
        own, first = (labels == k).any(axis=1), labels[:, 0] == k
        usage = None
        if decided and own.any():
            shares = action_usage(np.asarray(actions)[own], len(choices))
            usage = dict(zip(choices, shares.tolist(), strict=True))
        found.append(
            ClassFigures(
                name,
                videos=int(own.sum()),
                average_precision=(
                    100 * average_precision(scores[:, k], own) if own.any() else None
                ),
                top1=100 * float((best[first] == k).mean()) if first.any() else None,
                gflops=float(gflops[own].mean()) if own.any() else None,
                usage=usage,
            )
        )
    return found


def confusion_matrix(
    scores: Float[np.ndarray, "n c"], labels: Int[np.ndarray, "n k"]
) -> Int[np.ndarray, "c c"]:
    """How many videos of each class are taken for each.

    Args:
        scores: float [N, C].
        labels: int [N, K]; the first label counts.

    Returns:
        int [C, C], by first label (row) and best scored class (column).

    >>> confusion_matrix(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([[0], [1]])).tolist()
    [[1, 0], [1, 0]]
    """
    classes = scores.shape[1]
    cells = labels[:, 0] * classes + scores.argmax(axis=1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)
