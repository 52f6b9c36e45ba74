"""The reference beside a model: as many frames as its GFLOPs, or its milliseconds, pay for."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ReferencePoint:
    """The reference at a number of frames.

    Attributes:
        num_frames: k.
        score: in percent.
        gflops: per video.
        milliseconds: median latency of one video; None where it was not timed.
    """

    num_frames: int
    score: float
    gflops: float
    milliseconds: float | None = None


def at_equal_gflops(points: Sequence[ReferencePoint], gflops: float) -> ReferencePoint:
    """The fewest frames that cost at least as much; all there are where none does.

    Rounded up, so that the reference is never given less than the model that it is held against.
    """
    return _first_above([(point.gflops, point) for point in points], gflops)


def at_equal_time(points: Sequence[ReferencePoint], milliseconds: float) -> ReferencePoint | None:
    """The fewest frames that take at least as long; None where the reference was not timed."""
    timed = [(p.milliseconds, p) for p in points if p.milliseconds is not None]
    return _first_above(timed, milliseconds) if timed else None


def _first_above(costs: Sequence[tuple[float, ReferencePoint]], cost: float) -> ReferencePoint:
    # Sums in float32 may lie a little above a whole number of frames.
    enough = [point for own, point in costs if own >= cost * (1 - 1e-4)]
    points = enough or [max((point for _, point in costs), key=lambda point: point.num_frames)]
    return min(points, key=lambda point: point.num_frames)
