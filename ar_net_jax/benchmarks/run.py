"""A whole benchmark: models read, scored where there is data, timed in turn, figures drawn up."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ar_net_jax.benchmarks.entries import Entry, read_entries, split_names
from ar_net_jax.benchmarks.machine import Machine, PeakMemory, describe_machine, peak_memory
from ar_net_jax.benchmarks.measure import Measurement, Settings, measure
from ar_net_jax.benchmarks.rows import BenchmarkRow, benchmark_rows, score
from ar_net_jax.benchmarks.torch_baseline import TorchRatio, torch_forward_calls, torch_ratios
from ar_net_jax.data.classes import Matching
from ar_net_jax.errors import UserError
from ar_net_jax.inference.plans import NONE, Plans
from ar_net_jax.inference.step import Routing
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.timing import Call
from ar_net_jax.runtime.versions import package_versions

_REPETITIONS, _QUICK_REPETITIONS = 5, 2
# An accelerator needs many frames at once to show what it can do.
_BATCH_ON_CPU = 4
BATCH_ELSEWHERE = 32
"""Videos in a batch on an accelerator."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What a benchmark found, and what it depends on.

    Attributes:
        rows: one for every model, those of equal cost last.
        settings: how it was measured.
        given: the models and overrides that were asked for, as JSON holds them.
        machine: that it ran on.
        versions: of packages.
        peak_memory: of the measurement.
        torch: Uniform beside PyTorch, by layout; empty where that was not asked for.
    """

    rows: tuple[BenchmarkRow, ...]
    settings: Settings
    given: dict[str, Any]
    machine: Machine
    versions: dict[str, str]
    peak_memory: PeakMemory
    torch: dict[str, TorchRatio]

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "results": [row.to_json() for row in self.rows],
            "settings": {**dataclasses.asdict(self.settings), **self.given},
            "machine": dataclasses.asdict(self.machine),
            "versions": self.versions,
            "peak_memory": dataclasses.asdict(self.peak_memory),
            "torch": {name: dataclasses.asdict(t) for name, t in self.torch.items()} or None,
        }


def run_benchmark(
    configs: str | None,
    checkpoints: str | None,
    settings: Settings,
    *,
    overrides: Sequence[str] = (),
    usages: Sequence[str] = (),
    num_frames: int | None = None,
    routing: Routing = "routed",
    split: str = "test",
    classes: Matching = "by_name",
    against_torch: bool = False,
) -> Benchmark:
    """Measures speed, latency, memory and executed GFLOPs of models beside Uniform.

    Args:
        configs: names of shipped configs or files, separated by commas; or None.
        checkpoints: folders of trained models, separated by commas, see `split_names`; or None.
        settings: how it is measured.
        overrides: changes of single fields of every config.
        usages: imposed shares of choices, see `read_usage`; each adds a row for every model whose
            decisions can be imposed.
        num_frames: of a video; each config's by default.
        routing: form of the models that choose.
        split: that trained models are scored on, where their data set is prepared.
        classes: how its classes are found among a model's; see `match_classes`.
        against_torch: whether to time torchvision's network beside Uniform.

    Raises:
        UserError: a config, checkpoint, usage or batch that cannot be measured, no such plan, or
            torch is missing.
    """
    with _compiling_anew():
        entries = read_entries(
            split_names(configs, checkpoints),
            overrides,
            usages=usages,
            num_frames=num_frames,
            form=routing,
            split=split,
            classes=classes,
        )
        extra = _torch_calls(entries, settings) if against_torch else {}
        # Sizes that are given leave nothing to a plan.
        plans = Plans(settings.plan if settings.chunks is None else NONE)
        scores = score(entries, settings.chunks, plans)
        costs = {title: figures.gflops_per_video for title, figures in scores.items()}
        measured, extra_seconds = measure(entries, settings, costs=costs, extra=extra, plans=plans)
        peak = peak_memory()
        fewer = [m.entry for m in measured if m.entry.title not in scores]
        scores |= score(fewer, settings.chunks, plans)
    return Benchmark(
        rows=tuple(benchmark_rows(measured, scores)),
        settings=settings,
        given={
            "configs": configs,
            "checkpoints": checkpoints,
            "usage": list(usages),
            "overrides": list(overrides),
        },
        machine=describe_machine(),
        versions=package_versions(),
        peak_memory=peak,
        torch=_beside_torch(measured, extra_seconds),
    )


def choose_settings(
    *,
    batch: int | None = None,
    repetitions: int | None = None,
    chunks: Chunks | None = None,
    plan: str = NONE,
    quick: bool = False,
    progress: bool = True,
) -> Settings:
    """Settings that suit the devices, where none are given.

    Args:
        batch: of videos; 4 on a CPU and 32 elsewhere by default.
        repetitions: rounds; 5 by default, or 2 if `quick`.
        chunks: sizes of chunk of the routed form, in place of a plan's.
        plan: as for `find_plan`.
        quick: few calls, to see that it runs.
        progress: whether to show progress bars.

    Raises:
        UserError: an impossible number, or a batch that does not divide over the devices.
    """
    if batch is None:
        batch = _BATCH_ON_CPU if jax.default_backend() == "cpu" else BATCH_ELSEWHERE
    if repetitions is None:
        repetitions = _QUICK_REPETITIONS if quick else _REPETITIONS
    for name, value in (("batch", batch), ("repetitions", repetitions)):
        if value < 1:
            raise UserError(f"--{name}: must be at least 1, got {value}")
    if batch % jax.device_count():
        raise UserError(
            f"--batch={batch}: does not divide evenly over {jax.device_count()} devices; choose "
            f"a multiple of {jax.device_count()}"
        )
    return Settings(
        batch=batch,
        repetitions=repetitions,
        chunks=chunks,
        plan=plan,
        quick=quick,
        progress=progress,
    )


@contextlib.contextmanager
def _compiling_anew() -> Iterator[None]:
    """Without JAX's cache: a program found compiled would hide what compiling costs."""
    keeps: bool = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", keeps)


def _torch_calls(entries: Sequence[Entry], settings: Settings) -> dict[str, Call]:
    return torch_forward_calls(_only_uniform(entries), settings.batch, jax.default_backend())


def _beside_torch(
    measured: Sequence[Measurement], seconds: dict[str, np.ndarray]
) -> dict[str, TorchRatio]:
    """Uniform beside PyTorch, by layout; empty where PyTorch was not timed."""
    if not seconds:
        return {}
    uniform = next(m for m in measured if m.entry.reference is None)
    return torch_ratios(uniform, seconds)


def _only_uniform(entries: Sequence[Entry]) -> Entry:
    uniforms = [s for s in entries if s.reference is None]
    if len(uniforms) > 1:
        raise UserError(
            "--against-torch: these configs have several Uniforms "
            f"({', '.join(s.title for s in uniforms)}); give configs that share one"
        )
    return uniforms[0]
