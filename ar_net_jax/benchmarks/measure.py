"""Runs a benchmark: compiles, warms up, and times all models in turn, round after round."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tqdm

from ar_net_jax.benchmarks.entries import Entry, equal_cost_counts, sample_videos, with_frames
from ar_net_jax.benchmarks.programs import Program, Programs
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.data.video import read_video
from ar_net_jax.inference.plans import NONE, Plans
from ar_net_jax.inference.step import Request, Result, Routing
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.mesh import make_mesh, sharded
from ar_net_jax.runtime.timing import Call, time_interleaved, wait

# Calls of each form, after the first, that tell the faster one.
_TRIALS = 2
# What is timed of a model besides its parts, and whose calls are none of a model's.
_BATCH, _WHOLE, _EXTRA = "batch", "whole", "extra"
# Seconds for which threads of other libraries may go on spinning after their work.
_REST = 0.3
# Ten seconds of the size that video sites serve at their lowest.
_CLIP = {"frames": 250, "fps": 25, "height": 240, "width": 320, "crf": 23}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a benchmark is run.

    Attributes:
        batch: B, the large batch.
        repetitions: rounds.
        chunks: sizes of chunk of the routed form, in place of a plan's.
        plan: as for `find_plan`.
        seed: of noise and of the order of imposed actions.
        quick: as many calls at batch 1 as at the large batch, instead of B times as many.
        progress: whether to show progress bars.
    """

    batch: int
    repetitions: int
    chunks: Chunks | None = None
    plan: str = NONE
    seed: int = 0
    quick: bool = False
    progress: bool = True


@dataclasses.dataclass
class Measurement:
    """What was measured of one entry, times in seconds.

    Attributes:
        entry: which.
        form: of routing.
        program: at the large batch.
        results: on each of its inputs, on the host.
        plan: how the routed form ran, see `describe_plan`; None in the masked form.
        trials: the fastest trial call of each form, where two were tried.
        batch: of a call at the large batch, float64 [rounds].
        single: of a call at batch 1.
        decoded: of decoding the large batch from video files and a call.
        parts: of each part on one device.
        parts_whole: of the call that the parts make up.
    """

    entry: Entry
    form: Routing
    program: Program
    results: list[Result]
    plan: dict[str, Any] | None = None
    trials: dict[Routing, float] = dataclasses.field(default_factory=dict)
    batch: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    single: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    decoded: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    parts: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    parts_whole: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    @property
    def gflops_per_video(self) -> float:
        """By the usage formula, in the model's convention, mean over what was measured."""
        return float(np.mean([result.gflops.mean() for result in self.results]))


class _Runner:
    """One entry, ready to be timed."""

    def __init__(
        self, entry: Entry, settings: Settings, programs: Programs, form: Routing | None
    ) -> None:
        """Compiles and warms up.

        Args:
            entry: which.
            settings: of the benchmark.
            programs: shared by all.
            form: of routing; None for the faster one.
        """
        self.entry, self._programs, self._settings = entry, programs, settings
        self._videos = sample_videos(entry, settings.batch, settings.repetitions, settings.seed)
        self._forced = entry.forced_actions(settings.batch, settings.seed)
        # Other draws are another input.
        draws = settings.repetitions if entry.method.traits.draws else 1
        self._count = max(len(self._videos), draws)
        self._requests = [self._request(i) for i in range(self._count)]
        forms: tuple[Routing, ...] = (form,) if form else ("routed", "masked")
        compiled = {
            name: programs.get(entry, name, self._requests[0], alone=False) for name in forms
        }
        for program in compiled.values():
            wait(program.call(self._requests[0]))
        trials: dict[Routing, float] = {}
        if form is None:
            calls = {n: lambda i, p=p: p.call(self._requests[0]) for n, p in compiled.items()}
            trials = {n: float(s.min()) for n, s in time_interleaved(calls, _TRIALS).items()}
        self.form: Routing = form if form else min(trials, key=trials.__getitem__)
        self.program = compiled[self.form]
        results = [jax.device_get(self.program.call(request)) for request in self._requests]
        plan = programs.describe_plan(entry, self.form)
        self.measured = Measurement(entry, self.form, self.program, results, plan, trials)

    def _request(self, number: int, rows: slice = slice(None), *, alone: bool = False) -> Request:
        """The number-th input, or some of its videos."""
        frames = self._videos[number % len(self._videos)][rows]
        forced = None if self._forced is None else self._forced[rows]
        return self._programs.request(self.entry, frames, forced, number, alone=alone)

    def batch_call(self) -> Call:
        """The large batch, its inputs in turn."""
        return lambda number: self.program.call(self._requests[number % self._count])

    def single_call(self) -> Call:
        """One video on one device, the videos of the large batch in turn."""
        size = self._settings.batch
        requests = [
            self._request(i, slice(row, row + 1), alone=True)
            for i in range(self._count)
            for row in range(size)
        ]
        program = self._programs.get(self.entry, self.form, requests[0], alone=True)
        wait(program.call(requests[0]))
        return lambda number: program.call(requests[number % len(requests)])

    def decoded_call(self, path: Path) -> Call:
        """The large batch, every video decoded from a file first."""
        length, size = self.entry.num_frames, self.entry.method.image_size
        mesh = self._programs.mesh
        where = None if mesh is None else sharded(mesh)

        def call(number: int) -> Result:
            clips = [read_video(path, length, size)[0] for _ in range(self._settings.batch)]
            request = self._requests[number % self._count]
            frames = jax.device_put(np.stack(clips), where)
            return self.program.call(dataclasses.replace(request, frames=frames))

        return call

    def part_calls(self) -> dict[str, Call]:
        """The parts on one device, on its share of the batch; with several also the whole."""
        mesh = self._programs.mesh
        rows = slice(0, self._settings.batch // (mesh.size if mesh else 1))
        requests = self._requests
        if mesh is not None:
            requests = [self._request(i, rows, alone=True) for i in range(self._count)]
        calls = self._programs.parts.calls(
            self.entry,
            self.form,
            self._programs.variables(self.entry, alone=True),
            requests,
            [np.asarray(result.actions[rows]) for result in self.measured.results],
        )
        if mesh is not None:
            whole = self._programs.get(self.entry, self.form, requests[0], alone=True)
            wait(whole.call(requests[0]))
            calls[_WHOLE] = lambda number: whole.call(requests[number % len(requests)])
        return calls


def measure(
    entries: Sequence[Entry],
    settings: Settings,
    *,
    costs: Mapping[str, float],
    extra: Mapping[str, Call],
    plans: Plans | None = None,
) -> tuple[list[Measurement], dict[str, np.ndarray]]:
    """Measures models, and Uniform at as many frames as each model's cost pays for.

    Args:
        entries: from `read_entries`.
        settings: how.
        costs: GFLOPs per video by title, where more is known of them than what a few batches
            tell; in the convention of the model.
        extra: further calls to be timed in the same rounds as the large batch, by name.
        plans: of the models; none by default.

    Returns:
        What was measured of every entry, those of equal cost last; and seconds of the extra
        calls, float64 [rounds].
    """
    mesh = make_mesh() if jax.device_count() > 1 else None
    programs = Programs(settings.chunks, mesh, plans)
    runners = []
    for entry in tqdm.tqdm(entries, "compiling", disable=not settings.progress):
        runners.append(_Runner(entry, settings, programs, entry.form))
    runners += _equal_cost_runners(runners, settings, programs, costs)
    extra_seconds = _time_batches(runners, settings, extra)
    _time_singles(runners, settings)
    _time_decoding(runners, settings)
    return [runner.measured for runner in runners], extra_seconds


def _time_batches(
    runners: Sequence[_Runner], settings: Settings, extra: Mapping[str, Call]
) -> dict[str, np.ndarray]:
    """The large batch and the parts; returns the seconds of the extra calls."""
    calls: dict[tuple[Any, Any], Call] = {(_EXTRA, name): call for name, call in extra.items()}
    for i, runner in enumerate(runners):
        calls[i, _BATCH] = runner.batch_call()
        if len(runner.entry.method.networks()) > 1:
            calls |= {(i, part): call for part, call in runner.part_calls().items()}
    seconds = time_interleaved(
        calls,
        settings.repetitions,
        pause=_REST if extra else 0.0,
        title=f"batch of {settings.batch}",
        progress=settings.progress,
    )
    for i, runner in enumerate(runners):
        own = {part: values for (owner, part), values in seconds.items() if owner == i}
        runner.measured.batch = own.pop(_BATCH)
        runner.measured.parts_whole = own.pop(_WHOLE, runner.measured.batch)
        runner.measured.parts = own
    return {name: seconds[_EXTRA, name] for name in extra}


def _time_singles(runners: Sequence[_Runner], settings: Settings) -> None:
    """Batch 1: every video of the large batch once for each repetition."""
    seconds = time_interleaved(
        dict(enumerate(runner.single_call() for runner in runners)),
        settings.repetitions * (1 if settings.quick else settings.batch),
        title="batch of 1",
        progress=settings.progress,
    )
    for i, runner in enumerate(runners):
        runner.measured.single = seconds[i]


def _time_decoding(runners: Sequence[_Runner], settings: Settings) -> None:
    """The large batch from video files."""
    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder))
        seconds = time_interleaved(
            dict(enumerate(runner.decoded_call(clip) for runner in runners)),
            settings.repetitions,
            title="with decoding",
            progress=settings.progress,
        )
    for i, runner in enumerate(runners):
        runner.measured.decoded = seconds[i]


def _equal_cost_runners(
    runners: Sequence[_Runner], settings: Settings, programs: Programs, costs: Mapping[str, float]
) -> list[_Runner]:
    """Uniform at fewer frames, in the form that was faster at all frames."""
    forms = {id(r.entry): r.form for r in runners}
    wanted: dict[tuple[int, int], Entry] = {}
    for runner in runners:
        reference = runner.entry.reference
        if reference is None:
            continue
        cost = costs.get(runner.entry.title, runner.measured.gflops_per_video)
        for count in equal_cost_counts(reference, cost):
            if count < reference.num_frames:
                wanted[id(reference), count] = reference
    return [
        _Runner(with_frames(reference, count), settings, programs, forms[id(reference)])
        for (_, count), reference in sorted(wanted.items(), reverse=True)
    ]


def write_clip(folder: Path) -> Path:
    """Encodes a short video of moving patches as H.264; returns its path."""
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (_CLIP["height"] // 8, _CLIP["width"] // 8, 3), np.uint8)
    still = patches.repeat(8, axis=0).repeat(8, axis=1)
    frames = np.stack([np.roll(still, 2 * i, axis=1) for i in range(_CLIP["frames"])])
    path = folder / "clip.mp4"
    write_video(path, frames, fps=_CLIP["fps"], crf=_CLIP["crf"])
    return path
