"""Early word on a training that will come to nothing, and on how long it will take."""

import datetime
from collections.abc import Sequence

import jax
import numpy as np

from ar_net_jax.data.source import VideoSource
from ar_net_jax.errors import first_few

# Steps after which losses are first compared; then again after twice as many, and so on.
_FIRST_LOOK = 100
# Of fewer steps than this a stage's end says nothing either.
_LEAST_STEPS = 20


def missing_classes(splits: Sequence[VideoSource]) -> list[str]:
    """A line for each split that has no videos of some class, for the terminal.

    Args:
        splits: of the data set, the training videos first.
    """
    told = []
    for split in splits:
        found: set[int] = set()
        for index in range(len(split)):
            found.update(split[index]["labels"].tolist())  # Frames are not read.
        names = [name for k, name in enumerate(split.class_names) if k not in found]
        if names:
            what = "cannot be learnt" if split.split == "train" else "are not measured"
            told.append(
                f"{split.split}: no videos of {len(names)} of {len(split.class_names)} classes, "
                f"which {what}: {first_few(names)}"
            )
    return told


class LossTrend:
    """Says once, in words, that the loss of a stage does not fall."""

    def __init__(self) -> None:
        self._pending: list[jax.Array] = []
        self._losses: list[float] = []
        self._next, self._told = _FIRST_LOOK, False

    def add(self, loss: jax.Array) -> None:
        """Takes the loss of a step, a scalar that may still be computed."""
        self._pending.append(loss)

    def look(self, *, last: bool = False) -> str | None:
        """A line where the last quarter of the steps so far has no lower loss than the first.

        Waits for the losses. Looks after 100 steps, 200, 400 and so on.

        Args:
            last: of the stage: look whatever their number, from 20 steps on.
        """
        self._losses += [float(loss) for loss in jax.device_get(self._pending)]
        self._pending.clear()
        count = len(self._losses)
        if self._told or count < (_LEAST_STEPS if last else self._next):
            return None
        self._next = 2 * count
        quarter = count // 4
        first, now = np.mean(self._losses[:quarter]), np.mean(self._losses[-quarter:])
        if now < first:
            return None
        self._told = True
        return (
            f"the loss has not fallen in {count} steps (mean of the first quarter {first:.4g}, of "
            f"the last {now:.4g}): try a learning rate three times as high or as low, and see that "
            "the videos are in the folders of their classes"
        )


def first_estimate(stage: str, seconds_left: float, later: Sequence[str]) -> str:
    """A line on how long a stage will take.

    Args:
        stage: its name.
        seconds_left: of it, by its first steps.
        later: names of the stages after it.

    >>> first_estimate("warmup", 754.2, ["joint", "finetune"])
    'warmup: about 0:12:34 left by its first steps; then joint, finetune'
    """
    told = (
        f"{stage}: about {datetime.timedelta(seconds=round(seconds_left))} left by its first steps"
    )
    return f"{told}; then {', '.join(later)}" if later else told
