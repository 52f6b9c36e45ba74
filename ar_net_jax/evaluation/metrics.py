"""Metrics of video recognition, in numpy on the host: mAP, top-k, policy usage.

`PredictionLog` collects the batches of one evaluation and makes sure that every video counts once.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float, Float64, Int


def softmax_scores(logits: Float[np.ndarray, "n c"]) -> Float64[np.ndarray, "n c"]:
    """Class scores of each video: the softmax of its logits, in float64 to keep scores apart.

    mAP ranks the videos within a class, so it is not the same on logits and on their softmax; the
    released code uses the softmax.

    Args:
        logits: float [N, C].

    Returns:
        float64 [N, C], each row sums to 1.

    >>> softmax_scores(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    logits = np.asarray(logits, np.float64)
    scores = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)


def average_precision(scores: Float[np.ndarray, " n"], positives: Bool[np.ndarray, " n"]) -> float:
    """Non-interpolated average precision: the precision at each positive, averaged over them.

    Examples with equal scores share one rank, the last of their group, as in scikit-learn's
    `average_precision_score`; so the order of the examples never matters.

    Args:
        scores: float [N], larger means more likely positive.
        positives: bool [N].

    Returns:
        A share in [0, 1]; NaN if there is no positive.

    Raises:
        ValueError: if a score is not a number, which has no rank.

    >>> average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True])).__round__(4)
    0.8333
    """
    scores = np.asarray(scores)
    positives = np.asarray(positives, bool)
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {scores.size} scores are NaN; no ranking")
    if not positives.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    group_ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    true_positives = np.cumsum(positives[order])[group_ends]
    precision = true_positives / (group_ends + 1)
    gained = np.diff(true_positives, prepend=0)
    return float(np.sum(gained * precision) / positives.sum())


def mean_average_precision(
    scores: Float[np.ndarray, "n c"],
    labels: Int[np.ndarray, "n k"],
    *,
    first_label_only: bool = False,
) -> float:
    """Mean over classes of the average precision, in percent.

    A class that no video carries is left out of the mean.

    Args:
        scores: float [N, C], the softmax of the video logits (see `softmax_scores`).
        labels: int [N, K], padded with -1.
        first_label_only: count only the first label of a video, the released code's second variant;
            the default counts all of them, the headline figure.

    Returns:
        mAP in percent.

    Raises:
        ValueError: on NaN scores, a label outside [0, C), or no label at all.

    >>> scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> mean_average_precision(scores, np.array([[0, -1], [1, -1], [0, 1]]))
    100.0
    """
    scores = np.asarray(scores)
    positives = _one_hot(labels, scores, first_label_only)
    present = np.flatnonzero(positives.any(axis=0))
    if present.size == 0:
        raise ValueError("mean_average_precision: no video carries a label; nothing to average")
    per_class = [average_precision(scores[:, c], positives[:, c]) for c in present]
    return 100.0 * float(np.mean(per_class))


def top_k_accuracy(
    scores: Float[np.ndarray, "n c"], labels: Int[np.ndarray, "n k"], k: int
) -> float:
    """Share of videos whose first label is among the k best scored classes, in percent.

    Of classes with equal scores the smaller index ranks first.

    Args:
        scores: float [N, C].
        labels: int [N, K], padded with -1; only the first column is used, as in the released code.
        k: how many classes count, >= 1.

    Returns:
        Accuracy in percent.

    Raises:
        ValueError: if a video has no label, or one outside [0, C).

    >>> top_k_accuracy(np.array([[0.1, 0.9], [0.7, 0.3]]), np.array([[1], [1]]), k=1)
    50.0
    """
    scores = np.asarray(scores)
    first = _checked_labels(labels, scores)[:, 0]
    if (first < 0).any():
        raise ValueError(f"{(first < 0).sum()} videos have no label; top-k needs one for each")
    own = scores[np.arange(len(scores)), first][:, None]
    earlier = np.arange(scores.shape[1])[None, :] < first[:, None]
    rank = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return 100.0 * float(np.mean(rank < k))


def action_usage(
    actions: Int[np.ndarray, "n t"],
    num_actions: int,
    mask: Bool[np.ndarray, " n"] | Bool[np.ndarray, "n t"] | None = None,
) -> Float64[np.ndarray, " {num_actions}"]:
    """Share of frames on which the policy took each action.

    A frame covered by an earlier skip carries that skip's action and counts for it.

    Args:
        actions: int [N, T].
        num_actions: size of the action space.
        mask: bool [N] (videos that count) or [N, T] (frames that count); all by default.

    Returns:
        float64 [num_actions], summing to 1.

    Raises:
        ValueError: if an action is outside [0, num_actions), or no frame counts.

    >>> action_usage(np.array([[0, 2, 2, 0]]), 3).tolist()
    [0.5, 0.0, 0.5]
    """
    actions = np.asarray(actions)
    if mask is not None:
        mask = np.asarray(mask, bool)
        mask = mask[:, None] if mask.ndim == 1 else mask
        actions = actions[np.broadcast_to(mask, actions.shape)]
    if actions.size == 0:
        raise ValueError("action_usage: no frame counts; there is nothing to take a share of")
    if actions.min() < 0 or actions.max() >= num_actions:
        raise ValueError(f"action_usage: actions must lie in 0..{num_actions - 1}")
    return np.bincount(actions.ravel(), minlength=num_actions) / actions.size


def chance_level(labels: Int[np.ndarray, "n k"], num_classes: int) -> dict[str, float]:
    """What guessing gives: mAP of videos in random order, top-1 of a uniformly drawn class.

    With P positives among N videos, rank k holds a positive with probability P / N, and then
    (k - 1)(P - 1) / (N - 1) positives are expected before it. Summed over k this gives
    E[AP] = (H_N + (N - H_N)(P - 1) / (N - 1)) / N with H_N the N-th harmonic number.

    Args:
        labels: int [N, K], padded with -1.
        num_classes: number of classes C.

    Returns:
        `{"mAP": percent, "top1": percent}`.

    >>> chance_level(np.array([[0], [1]]), 2)
    {'mAP': 75.0, 'top1': 50.0}
    """
    labels = np.asarray(labels)
    total = len(labels)
    counts = _one_hot(labels, np.empty((total, num_classes)), False).sum(axis=0)
    counts = counts[counts > 0]
    harmonic = np.sum(1.0 / np.arange(1, total + 1))
    others = (counts - 1) / max(total - 1, 1)
    expected = (harmonic + (total - harmonic) * others) / total
    return {"mAP": 100.0 * float(np.mean(expected)), "top1": 100.0 / num_classes}


# Marks the columns of a batch that hold calls of a network.
_CALLS = "calls/"


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The predictions for one split, in the order of the example ids.

    Attributes:
        scores: float64 [N, C], the softmax of the video logits, or their sigmoids.
        labels: int [N, K], padded with -1.
        example_id: int [N], 0..N-1.
        actions: int [N, T], the choice made for every frame; None where that was not recorded.
        frame_index: int [N, T], the stored frames that were looked at; None likewise.
        calls: by network, how many times each video needed it, float [N].
    """

    scores: Float64[np.ndarray, "n c"]
    labels: Int[np.ndarray, "n k"]
    example_id: Int[np.ndarray, " n"]
    actions: Int[np.ndarray, "n t"] | None = None
    frame_index: Int[np.ndarray, "n t"] | None = None
    calls: Mapping[str, Float[np.ndarray, " n"]] = dataclasses.field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Every accuracy figure in percent: `mAP`, `mAP_first_label`, `top1`, `top5`."""
        return {
            "mAP": mean_average_precision(self.scores, self.labels),
            "mAP_first_label": mean_average_precision(
                self.scores, self.labels, first_label_only=True
            ),
            "top1": top_k_accuracy(self.scores, self.labels, 1),
            "top5": top_k_accuracy(self.scores, self.labels, 5),
        }


@dataclasses.dataclass
class PredictionLog:
    """Collects the batches of one evaluation; padding rows are dropped as they come in.

    Attributes:
        num_examples: size of the split; the ids 0..num_examples-1 must each appear once.
        to_scores: from logits [B, C] to scores float64 [B, C].

    >>> log = PredictionLog(num_examples=1)
    >>> log.add(logits=np.zeros((2, 3)), labels=np.array([[1], [-1]]),
    ...         example_id=np.array([0, 0]), mask=np.array([True, False]))
    >>> log.finish().scores.shape
    (1, 3)
    """

    num_examples: int
    to_scores: Callable[[np.ndarray], np.ndarray] = softmax_scores
    _batches: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list, repr=False)

    def add(
        self,
        *,
        logits: Float[np.ndarray, "b c"],
        labels: Int[np.ndarray, "b k"],
        example_id: Int[np.ndarray, " b"],
        mask: Bool[np.ndarray, " b"],
        actions: Int[np.ndarray, "b t"] | None = None,
        frame_index: Int[np.ndarray, "b t"] | None = None,
        calls: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Adds one batch.

        Args:
            logits: float [B, C], video logits; kept as scores.
            labels: int [B, K], padded with -1.
            example_id: int [B], index within the split.
            mask: bool [B], False for padding rows.
            actions: int [B, T], the choices made; in every batch or in none, like the following.
            frame_index: int [B, T], the stored frames that were looked at.
            calls: by network, how many times each video needed it, float [B].
        """
        keep = np.asarray(mask, bool)
        batch = {
            "scores": self.to_scores(logits)[keep],
            "labels": np.asarray(labels)[keep],
            "example_id": np.asarray(example_id)[keep],
        }
        for name, values in (("actions", actions), ("frame_index", frame_index)):
            if values is not None:
                batch[name] = np.asarray(values)[keep]
        for name, counts in (calls or {}).items():
            batch[_CALLS + name] = np.asarray(counts)[keep]
        self._batches.append(batch)

    def finish(self) -> Predictions:
        """Joins the batches and checks that each example of the split is there exactly once.

        Returns:
            The `Predictions`, ordered by example id.

        Raises:
            ValueError: naming the example ids that are missing, repeated or foreign to the split.
        """
        if not self._batches:
            raise ValueError("the evaluation saw no batch; the split or its pipeline is empty")
        columns = {
            name: np.concatenate([batch[name] for batch in self._batches])
            for name in self._batches[0]
        }
        ids = columns["example_id"]
        found, counts = np.unique(ids, return_counts=True)
        wrong = {
            "missing": np.setdiff1d(np.arange(self.num_examples), found),
            "repeated": found[counts > 1],
            "outside the split": found[(found < 0) | (found >= self.num_examples)],
        }
        faults = [f"{kind}: {which[:5].tolist()}" for kind, which in wrong.items() if which.size]
        if faults:
            raise ValueError(
                f"evaluation must see each of {self.num_examples} examples once, but saw "
                f"{ids.size} rows; example ids " + "; ".join(faults)
            )
        order = np.argsort(ids, kind="stable")
        ordered = {name: column[order] for name, column in columns.items()}
        calls = {name: ordered.pop(name) for name in list(ordered) if name.startswith(_CALLS)}
        return Predictions(
            **ordered, calls={name.removeprefix(_CALLS): n for name, n in calls.items()}
        )


def _checked_labels(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The labels as int [N, K], after checking them against the scores [N, C]."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or scores.ndim != 2 or len(labels) != len(scores):
        raise ValueError(
            f"expected scores [N, C] and labels [N, K], got {scores.shape} and {labels.shape}"
        )
    if labels.size and (labels.max() >= scores.shape[1] or labels.min() < -1):
        raise ValueError(
            f"labels must be -1 (padding) or a class in 0..{scores.shape[1] - 1}, "
            f"got {labels.min()}..{labels.max()}"
        )
    return labels


def _one_hot(labels: np.ndarray, scores: np.ndarray, first_label_only: bool) -> np.ndarray:
    """Which video carries which label: bool [N, C]."""
    labels = _checked_labels(labels, scores)
    if first_label_only:
        labels = labels[:, :1]
    positives = np.zeros(scores.shape, bool)
    rows, columns = np.nonzero(labels >= 0)
    positives[rows, labels[rows, columns]] = True
    return positives
