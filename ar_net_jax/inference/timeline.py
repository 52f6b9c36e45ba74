"""Which class a long video shows when, from windows that may overlap."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TimelinePart:
    """A stretch of time with one most likely class.

    Attributes:
        start: in seconds.
        end: in seconds.
        index: of the class.
        name: of the class.
        probability: of the class, between 0 and 1: the mean over the stretch.
    """

    start: float
    end: float
    index: int
    name: str
    probability: float


def make_timeline(
    spans: Sequence[tuple[float, float]],
    probabilities: Sequence[np.ndarray],
    names: Sequence[str],
) -> tuple[TimelinePart, ...]:
    """The most likely class at every time: by the mean over the windows that hold that time.

    Args:
        spans: start and end of each window, in seconds; neither descends.
        probabilities: of the classes in each window, [C].
        names: of the C classes.

    Returns:
        Parts in the order of time, neighbours of one class joined; times that are in no window are
        in no part.

    >>> parts = make_timeline([(0, 4), (2, 6)], [np.array([.9, .1]), np.array([.3, .7])], "ab")
    >>> [(part.start, part.end, part.name) for part in parts]
    [(0, 4, 'a'), (4, 6, 'b')]
    """
    starts, ends = zip(*spans)
    edges = sorted({*starts, *ends})
    parts: list[TimelinePart] = []
    for start, end in zip(edges, edges[1:]):
        # The windows that have begun by `start` and last until `end` follow one another.
        held = probabilities[bisect.bisect_left(ends, end) : bisect.bisect_right(starts, start)]
        if not held:
            continue
        mean = np.mean(held, axis=0)
        index = int(np.argmax(mean))
        part = TimelinePart(start, end, index, names[index], float(mean[index]))
        if parts and parts[-1].end == start and parts[-1].index == index:
            part = _together(parts.pop(), part)
        parts.append(part)
    return tuple(parts)


def _together(one: TimelinePart, other: TimelinePart) -> TimelinePart:
    weights = (one.end - one.start, other.end - other.start)
    mean = np.average([one.probability, other.probability], weights=weights)
    return TimelinePart(one.start, other.end, one.index, one.name, float(mean))
