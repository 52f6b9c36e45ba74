"""Times calls in alternation, so that other load on the machine affects all of them alike."""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
import tqdm

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
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
    """Times every call once a round, in alternating order, until its result is computed.

    Args:
        calls: by any key; each takes the number of the round. JAX arrays that it returns are
            waited for.
        rounds: times that each call is timed.
        pause: seconds of rest before each call, for threads that another library keeps spinning.
        warm_up: whether to call each once more right before it is timed, as for training steps,
            which in practice follow one another: right after another program, a step was seen to
            take up to a fifth longer.
        title: of the progress bar.
        progress: whether to show a bar.

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
                    wait(calls[key](number))
                started = time.perf_counter()
                wait(calls[key](number))
                seconds[key].append(time.perf_counter() - started)
                bar.update()
    return {key: np.array(values) for key, values in seconds.items()}


def wait(result: Result) -> Result:
    """Hands a tree of arrays on once all of them are computed."""
    done: Result = jax.block_until_ready(result)
    return done


@dataclass(frozen=True)
class Latency:
    """Times of one call in seconds.

    Attributes:
        p50: the median.
        p95: one call in twenty takes longer.
        p99: one call in a hundred takes longer.
        calls: number of calls it was taken from.
    """

    p50: float
    p95: float
    p99: float
    calls: int


def summarise(seconds: np.ndarray) -> Latency:
    """The latency of a call from its times in seconds, [calls]."""
    p50, p95, p99 = np.percentile(seconds, [50, 95, 99])
    return Latency(float(p50), float(p95), float(p99), len(seconds))
