"""Which sizes of chunk to take, from the measured time of a chunk of each size."""

import functools
import itertools
from collections.abc import Mapping

from ar_net_jax.ops.routing import Chunks, expected_trips

Seconds = tuple[tuple[int, float], ...]
"""Of one chunk by its size, ascending by size."""

# A loop for another size is another copy of the network to compile.
_MOST_SIZES, _LEAST_GAIN = 3, 0.02
# Numbers of frames that sizes are chosen for, four to an octave: a call may be for one clip or for
# a large batch.
_COUNTS = tuple(dict.fromkeys(round(2 ** (i / 4)) for i in range(33)))


def fewest_seconds(count: int, chunks: Chunks, seconds: Seconds) -> dict[int, int]:
    """How many chunks of each size hold some frames in the least time.

    Args:
        count: number of frames.
        chunks: sizes that there are.
        seconds: as measured. A size that was not measured takes as long as the next larger one
            that was, or as the largest in proportion.

    >>> fewest_seconds(24, (32, 16, 8), ((8, 1.0), (16, 1.5), (32, 2.8)))
    {8: 1, 16: 1}
    """
    costs = tuple((size, _seconds_of(size, seconds)) for size in chunks)
    # One table serves all counts up to the next power of two.
    first = _first_chunks(costs, 1 << max(count - 1, 0).bit_length())
    trips: dict[int, int] = {}
    while count > 0:
        size = first[count]
        trips[size] = trips.get(size, 0) + 1
        count -= size
    return trips


def choose_chunks(seconds: Seconds) -> Chunks:
    """The sizes for a loop that lose least against the best division of any number of frames.

    Every octave of numbers counts alike. A further size has to gain two per cent.

    Args:
        seconds: as measured, of at least one size.

    >>> choose_chunks(((1, 1.0), (2, 1.1), (4, 1.3), (8, 8.0)))
    (4, 2)
    """
    sizes = tuple(size for size, _ in reversed(seconds))
    best = {count: _total(fewest_seconds(count, sizes, seconds), seconds) for count in _COUNTS}
    chosen, least = sizes[:1], float("inf")
    for number in range(1, min(_MOST_SIZES, len(sizes)) + 1):
        ladders = itertools.combinations(sizes, number)
        loss, ladder = min((_loss(ladder, seconds, best), ladder) for ladder in ladders)
        if loss < least * (1 - _LEAST_GAIN):
            chosen, least = ladder, loss
    return chosen


def _loss(chunks: Chunks, seconds: Seconds, best: Mapping[int, float]) -> float:
    """The mean over numbers of frames of the loop's time over the best one."""
    ratios = [_total(expected_trips(n, chunks), seconds) / time for n, time in best.items()]
    return sum(ratios) / len(ratios)


def _total(trips: Mapping[int, int], seconds: Seconds) -> float:
    return sum(count * _seconds_of(size, seconds) for size, count in trips.items())


def _seconds_of(size: int, seconds: Seconds) -> float:
    largest, taken = seconds[-1]
    return next((s for measured, s in seconds if measured >= size), taken * size / largest)


@functools.lru_cache(maxsize=256)
def _first_chunks(costs: Seconds, most: int) -> list[int]:
    """By number of frames, up to `most`, the first chunk of those that take the least time."""
    best, first = [0.0], [0]
    for count in range(1, most + 1):
        least, size = min((taken + best[max(0, count - size)], size) for size, taken in costs)
        best.append(least)
        first.append(size)
    return first
