"""Models timed in turn beside Uniform at one batch size and precision."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ar_net_jax.benchmarks.entries import Entry, Source, read_entries
from ar_net_jax.benchmarks.programs import Program, Programs
from ar_net_jax.benchmarks.suite.peaks import peak_tflops
from ar_net_jax.costs import total_gflops
from ar_net_jax.inference.step import Request, Result, Routing
from ar_net_jax.runtime.timing import Call, Latency, summarise, time_interleaved, wait

USAGES = ("half", "quarter")
"""Shares of Uniform's computation that are imposed on policies, which are untrained here."""


@dataclasses.dataclass(frozen=True)
class SpeedRow:
    """One model at one batch size.

    Attributes:
        model: its title.
        config: name of its config.
        dtype: of the backbones.
        batch: videos.
        num_frames: of a video.
        form: `masked`, which for Uniform is one plain pass; `loop` or `buckets`, see `Plan`.
        latency: of a call, in seconds.
        videos_per_second: from the median.
        gflops_per_video: that were needed, in multiply-accumulates.
        executed_gflops_per_video: that were computed, the filling of chunks included.
        tflops_per_second: that were executed, two FLOPs for each multiply-accumulate.
        share_of_peak: of what the device's matrix units can do; None where that is not known.
        compile_seconds: of the program, which usages share.
        time_ratio: to Uniform at all frames, in the same rounds; None for that itself.
        gflops_ratio: likewise.
        realised_saving: (1 - time ratio) / (1 - GFLOPs ratio), where computation is saved.
    """

    model: str
    config: str
    dtype: str
    batch: int
    num_frames: int
    form: str
    latency: Latency
    videos_per_second: float
    gflops_per_video: float
    executed_gflops_per_video: float
    tflops_per_second: float
    share_of_peak: float | None
    compile_seconds: float
    time_ratio: float | None = None
    gflops_ratio: float | None = None
    realised_saving: float | None = None


def entries_of(spec: str, dtype: str, overrides: Sequence[str]) -> list[Entry]:
    """A config's model at the imposed usages, where it decides, and the Uniform beside it.

    Args:
        spec: name of the config.
        dtype: of the backbones.
        overrides: of single fields.
    """
    given = [*overrides, f"--config.model.dtype={dtype}"]
    return read_entries([Source(spec, None)], given, usages=USAGES)


def time_entries(
    entries: Sequence[Entry],
    programs: Programs,
    batch: int,
    rounds: int,
    extra: Mapping[str, Call] | None = None,
) -> tuple[list[SpeedRow], dict[str, Latency]]:
    """Times models on noise, in turn.

    Args:
        entries: from `entries_of`. What treats every frame alike runs as one plain pass.
        programs: that were compiled so far; more are added.
        batch: videos.
        rounds: in which each is called once.
        extra: further calls, by name.

    Returns:
        A row for every model; and the latency of the further calls.
    """
    calls: dict[Any, Call] = {("", name): call for name, call in (extra or {}).items()}
    rows, clips = [], _Noise(batch)
    for number, entry in enumerate(entries):
        form: Routing = "masked" if entry.form is None else entry.form
        frames = clips.of(entry.num_frames, entry.method.image_size)
        forced = entry.forced_actions(batch, seed=0)
        request = programs.request(entry, frames, forced, 0, alone=True)
        program = programs.get(entry, form, request, alone=True)
        result = jax.device_get(wait(program.call(request)))
        plan = programs.describe_plan(entry, form)
        rows.append((entry, plan["form"] if plan else form, result, program.compile_seconds))
        calls[number] = _call(program, request)
    seconds = time_interleaved(calls, rounds, warm_up=True)
    found = [_row(*row, summarise(seconds[number])) for number, row in enumerate(rows)]
    others = {name: summarise(seconds["", name]) for name in extra or {}}
    return _beside_uniform(entries, found), others


def _call(program: Program, request: Request) -> Call:
    return lambda _: program.call(request)


def time_parts(entry: Entry, programs: Programs, batch: int, rounds: int) -> dict[str, Latency]:
    """Times the networks of a model that chooses, each by itself in the routed form.

    Args:
        entry: from `entries_of`, with decisions that are imposed.
        programs: whose sizes of chunk are taken.
        batch: videos.
        rounds: in which each is called once.

    Returns:
        By the part's name.
    """
    forced = entry.forced_actions(batch, seed=0)
    frames = _Noise(batch).of(entry.num_frames, entry.method.image_size)
    request = programs.request(entry, frames, forced, 0, alone=True)
    variables = programs.variables(entry, alone=True)
    calls = programs.parts.calls(entry, "routed", variables, [request], [np.asarray(forced)])
    seconds = time_interleaved(calls, rounds, warm_up=True)
    return {name: summarise(taken) for name, taken in seconds.items()}


class _Noise:
    """Clips of noise, drawn once for each shape."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._clips: dict[tuple[int, int], np.ndarray] = {}

    def of(self, length: int, side: int) -> np.ndarray:
        shape = (self._batch, length, side, side, 3)
        if (length, side) not in self._clips:
            rng = np.random.default_rng(0)
            self._clips[length, side] = rng.integers(0, 256, shape, np.uint8)
        return self._clips[length, side]


def _row(entry: Entry, form: str, result: Result, compiled: float, latency: Latency) -> SpeedRow:
    method, batch = entry.method, len(result.actions)
    networks, dtype = method.networks(), method.config.dtype
    needed = {name: float(np.sum(calls)) for name, calls in result.calls.items()}
    executed = {name: float(np.sum(count)) for name, count in result.executed.items()}
    done = float(total_gflops(networks, executed, "macs"))
    rate = 2e-3 * done / latency.p50
    peak = peak_tflops(jax.devices()[0].device_kind, dtype)
    return SpeedRow(
        model=entry.title,
        config=entry.spec,
        dtype=dtype,
        batch=batch,
        num_frames=entry.num_frames,
        form=form,
        latency=latency,
        videos_per_second=batch / latency.p50,
        gflops_per_video=float(total_gflops(networks, needed, "macs")) / batch,
        executed_gflops_per_video=done / batch,
        tflops_per_second=rate,
        share_of_peak=rate / peak if peak else None,
        compile_seconds=compiled,
    )


def _beside_uniform(entries: Sequence[Entry], rows: Sequence[SpeedRow]) -> list[SpeedRow]:
    """With the ratios to the Uniform that each is held against."""
    by_entry = {id(entry): row for entry, row in zip(entries, rows, strict=True)}
    found = []
    for entry, row in zip(entries, rows, strict=True):
        if entry.reference is not None:
            uniform = by_entry[id(entry.reference)]
            time = row.latency.p50 / uniform.latency.p50
            gflops = row.gflops_per_video / uniform.gflops_per_video
            saving = (1 - time) / (1 - gflops) if gflops < 1 else None
            row = dataclasses.replace(
                row, time_ratio=time, gflops_ratio=gflops, realised_saving=saving
            )
        found.append(row)
    return found
