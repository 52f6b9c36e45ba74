"""Times calls side by side, so that what else happens on the machine hits all of them alike."""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
import tqdm

Key = TypeVar("Key", bound=Hashable)
Call = Callable[[int], Any]


def time_interleaved(
    calls: Mapping[Key, Call],
    rounds: int,
    *,
    pause: float = 0.0,
    warm_up: bool = False,
    title: str = "",
    progress: bool = False,
) -> dict[Key, np.ndarray]:
    """Times every call once a round, in alternating order, until its result is there.

    Args:
        calls: by any key; each takes the number of the round and returns JAX arrays, for which
            the device is waited, or anything that is there already.
        rounds: how many.
        pause: seconds of rest before each call, for threads that another library keeps spinning.
        warm_up: whether to call each once more right before it is timed, where what is measured
            follows its like in practice: a training step right after another program's was seen
            to take up to a fifth longer.
        title: of the progress bar.
        progress: whether to show it.

    Returns:
        Seconds float64 [rounds] for each key.
    """
    keys = list(calls)
    seconds: dict[Key, list[float]] = {key: [] for key in keys}
    with tqdm.tqdm(total=rounds * len(keys), desc=title, disable=not progress) as bar:
        for number in range(rounds):
            for key in keys if number % 2 == 0 else reversed(keys):
                time.sleep(pause)
                if warm_up:
                    jax.block_until_ready(calls[key](number))
                started = time.perf_counter()
                jax.block_until_ready(calls[key](number))
                seconds[key].append(time.perf_counter() - started)
                bar.update()
    return {key: np.array(values) for key, values in seconds.items()}


@dataclass(frozen=True)
class Latency:
    """Times of one call in seconds.

    Attributes:
        p50: the median.
        p99: what one call in a hundred exceeds.
        calls: that it is drawn from.
    """

    p50: float
    p99: float
    calls: int


def summarise(seconds: np.ndarray) -> Latency:
    """The latency of a call that was timed again and again."""
    p50, p99 = np.percentile(seconds, [50, 99])
    return Latency(float(p50), float(p99), len(seconds))
