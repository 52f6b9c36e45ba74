"""What is decided about each kind of frame of the embedded data set."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ar_net_jax.data.embedded.builder import frame_kinds
from ar_net_jax.data.source import VideoSource
from ar_net_jax.evaluation.evaluate import Evaluation
from ar_net_jax.methods import Method


@dataclasses.dataclass(frozen=True)
class ChoicesByKind:
    """Shares of the choices on each kind of frame.

    Attributes:
        usage_by_kind: share by choice, by kind of frame.
        frames_by_kind: number of frames.
        high_resolution_share: of the choice that sees a frame largest.
        ratio: that on frames with small evidence over that on frames that show nothing; None if it
            is never chosen on those.
    """

    usage_by_kind: Mapping[str, Mapping[str, float]]
    frames_by_kind: Mapping[str, int]
    high_resolution_share: Mapping[str, float]
    ratio: float | None


def choices_by_kind(
    method: Method[Any, Any], evaluation: Evaluation, split: VideoSource, data_dir: Path
) -> ChoicesByKind:
    """What a method chose for each kind of frame.

    Args:
        method: that decides.
        evaluation: of it on the split.
        split: a split of the embedded data set.
        data_dir: where that was prepared.
    """
    kinds_of = frame_kinds(data_dir / "videos", split.split)
    stored = [split[i]["name"] for i in range(len(split))]
    actions, looked_at = _recorded(evaluation)
    kinds = np.stack(
        [np.asarray(kinds_of[name])[index] for name, index in zip(stored, looked_at, strict=True)]
    )
    names = method.choices.names
    usage, frames = {}, {}
    for kind in sorted(set(kinds.ravel().tolist())):
        chosen = actions[kinds == kind]
        shares = np.bincount(chosen, minlength=len(names)) / len(chosen)
        usage[kind] = dict(zip(names, shares.tolist(), strict=True))
        frames[kind] = len(chosen)
    highest = max(range(len(names)), key=method.side_of)
    share = {kind: usage[kind][names[highest]] for kind in usage}
    ratio = share["small"] / share["empty"] if share["empty"] else None
    return ChoicesByKind(usage, frames, share, ratio)


def _recorded(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Choices and stored frames, int [N, T] each; the evaluation of a model records both."""
    predictions = evaluation.predictions
    assert predictions.actions is not None and predictions.frame_index is not None
    return predictions.actions, predictions.frame_index
