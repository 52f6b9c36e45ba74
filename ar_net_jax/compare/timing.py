"""How long the models of a study take: batch 1, and the batch size of the highest throughput.

All models are timed in one process in turn, round after round, on videos of the tested split where
what is computed depends on them. Frames lie on the device already; `decoded_*` decode every video
from a file first.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import tqdm

from ar_net_jax.benchmarks.entries import Entry, sample_videos
from ar_net_jax.benchmarks.measure import write_clip
from ar_net_jax.benchmarks.programs import Programs
from ar_net_jax.data.video import read_video
from ar_net_jax.inference.step import Request, Routing
from ar_net_jax.runtime.timing import Call, Latency, summarise, time_interleaved, wait

# Calls that tell the faster form and the better batch size.
_TRIALS = 3


@dataclass(frozen=True)
class Protocol:
    """How models are timed.

    Attributes:
        batches: sizes among which the best is looked for.
        rounds: calls of each model at batch 1; at its best batch a quarter of them.
        progress: whether to show bars.
    """

    batches: tuple[int, ...] = (8, 32)
    rounds: int = 40
    progress: bool = True


QUICK = Protocol(batches=(1,), rounds=8)


@dataclass(frozen=True)
class Times:
    """How long a model takes.

    Attributes:
        dtype: of its backbones.
        form: of execution, `routed` or `masked`.
        latency: of one video, in seconds.
        best_batch: videos at once of the highest throughput; None where that was not looked for.
        videos_per_second: at the best batch, from the median.
        decoded_latency: of one video that is decoded first.
        decoded_videos_per_second: at the best batch.
    """

    dtype: str
    form: Routing
    latency: Latency
    best_batch: int | None = None
    videos_per_second: float | None = None
    decoded_latency: Latency | None = None
    decoded_videos_per_second: float | None = None


class _Timed:
    """A model that is compiled for one batch size, and its inputs."""

    def __init__(self, entry: Entry, batch: int, programs: Programs, calls: int) -> None:
        videos = sample_videos(entry, batch, calls, seed=0)
        self._size, self._length = entry.method.image_size, entry.num_frames
        self._batch = batch
        self.requests = [
            programs.request(entry, clips, None, number, alone=True)
            for number, clips in enumerate(videos)
        ]
        # Where every frame is treated alike, the form that is faster here.
        forms: tuple[Routing, ...] = (entry.form,) if entry.form else ("routed", "masked")
        first = self.requests[0]
        tried = {form: programs.get(entry, form, first, alone=True) for form in forms}
        for program in tried.values():
            wait(program.call(first))
        self.form = forms[0]
        if len(forms) > 1:
            trials: dict[Routing, Call] = {
                form: lambda _, p=p: p.call(first)  # type: ignore[misc]
                for form, p in tried.items()
            }
            seconds = time_interleaved(trials, _TRIALS)
            self.form = min(forms, key=lambda form: float(seconds[form].min()))
        self.program = tried[self.form]

    def call(self, number: int) -> object:
        """One call, the inputs in turn."""
        return self.program.call(self._request(number))

    def decoded(self, path: Path) -> Call:
        """The same, every video decoded from a file first."""

        def call(number: int) -> object:
            clips = [read_video(path, self._length, self._size)[0] for _ in range(self._batch)]
            frames = jax.device_put(np.stack(clips))
            return self.program.call(replace(self._request(number), frames=frames))

        return call

    def _request(self, number: int) -> Request:
        return self.requests[number % len(self.requests)]


def time_models(
    entries: Mapping[str, Entry], whole: Sequence[str], protocol: Protocol
) -> dict[str, Times]:
    """Times models.

    Args:
        entries: by any name; those that decide by themselves with the split to decide on.
        whole: names of those that are timed at their best batch and with decoding too.
        protocol: how.

    Returns:
        Times by name.
    """
    programs = Programs(None, None)
    single = {
        name: _Timed(entry, 1, programs, protocol.rounds)
        for name, entry in tqdm.tqdm(
            entries.items(), "compiling, batch 1", disable=not protocol.progress
        )
    }
    seconds = _in_turn(single, protocol.rounds, "batch 1", protocol)
    times = {
        name: Times(entry.config.model.dtype, single[name].form, summarise(seconds[name]))
        for name, entry in entries.items()
    }
    best = {
        name: _best_batch(entries[name], programs, protocol)
        for name in tqdm.tqdm(whole, "finding batch sizes", disable=not protocol.progress)
    }
    rounds = max(protocol.rounds // 4, 2)
    batched = {name: timed for name, (_, timed) in best.items()}
    together = _in_turn(batched, rounds, "best batch", protocol)
    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder))
        alone = {name: single[name].decoded(clip) for name in whole}
        decoded = _timed(alone, rounds, "batch 1, decoding", protocol)
        alike = {name: timed.decoded(clip) for name, timed in batched.items()}
        decoded_together = _timed(alike, max(rounds // 2, 2), "best batch, decoding", protocol)
    for name, (batch, _) in best.items():
        times[name] = replace(
            times[name],
            best_batch=batch,
            videos_per_second=batch / float(np.median(together[name])),
            decoded_latency=summarise(decoded[name]),
            decoded_videos_per_second=batch / float(np.median(decoded_together[name])),
        )
    return times


def _best_batch(entry: Entry, programs: Programs, protocol: Protocol) -> tuple[int, _Timed]:
    """The batch size of the highest throughput, and the model compiled for it."""
    available = None if entry.split is None else len(entry.split)
    sizes = [size for size in protocol.batches if available is None or size <= available]
    tried = {size: _Timed(entry, size, programs, _TRIALS) for size in sizes or (1,)}
    if len(tried) == 1:
        return next(iter(tried.items()))
    seconds = time_interleaved({size: timed.call for size, timed in tried.items()}, _TRIALS)
    size = max(tried, key=lambda size: size / float(np.min(seconds[size])))
    return size, tried[size]


def _in_turn(
    timed: Mapping[str, _Timed], rounds: int, title: str, protocol: Protocol
) -> dict[str, np.ndarray]:
    return _timed({name: one.call for name, one in timed.items()}, rounds, title, protocol)


def _timed(
    calls: Mapping[str, Call], rounds: int, title: str, protocol: Protocol
) -> dict[str, np.ndarray]:
    return time_interleaved(calls, rounds, title=title, progress=protocol.progress)
