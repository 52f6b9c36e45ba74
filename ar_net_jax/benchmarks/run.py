"""A whole benchmark: models read, scored where there is data, timed in turn, figures drawn up."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from ar_net_jax.benchmarks.figures import benchmark_rows, score
from ar_net_jax.benchmarks.machine import describe_machine, peak_memory
from ar_net_jax.benchmarks.rounds import Settings, run_rounds
from ar_net_jax.benchmarks.subjects import Subject, read_subjects, split_names
from ar_net_jax.benchmarks.torch_baseline import torch_forward_calls, torch_ratios
from ar_net_jax.errors import UserError
from ar_net_jax.inference.step import Routing
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.versions import package_versions

_REPETITIONS, _QUICK_REPETITIONS = 5, 2
# An accelerator needs many frames at once to show what it can do.
_BATCH_ON_CPU, _BATCH_ELSEWHERE = 4, 32


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
    against_torch: bool = False,
) -> dict[str, Any]:
    """Measures speed, latency, memory and executed GFLOPs of models beside Uniform.

    Args:
        configs: names of shipped configs or files, separated by commas; or None.
        checkpoints: folders of trained models, separated by commas, see `split_names`; or None.
        settings: how it is measured.
        overrides: changes of single fields of every config.
        usages: imposed shares of actions, see `read_usage`; each adds a row for every AR-Net.
        num_frames: of a video; each config's by default.
        routing: form of the models that choose.
        split: that trained models are scored on, where their data set is prepared.
        against_torch: whether to time torchvision's network beside Uniform.

    Returns:
        What `write_benchmark` takes.

    Raises:
        UserError: a config, checkpoint, usage or batch that cannot be measured, or torch is
            missing.
    """
    with _compiling_anew():
        subjects = read_subjects(
            split_names(configs, checkpoints),
            overrides,
            usages=usages,
            num_frames=num_frames,
            form=routing,
            split=split,
        )
        extra = {}
        if against_torch:
            extra = torch_forward_calls(
                _only_uniform(subjects), settings.batch, jax.default_backend()
            )
        scores = score(subjects, settings.chunks)
        costs = {title: row["gflops_per_video"] for title, row in scores.items()}
        measured, extra_seconds = run_rounds(subjects, settings, costs=costs, extra=extra)
        rows, peak = benchmark_rows(measured), peak_memory()
        fewer = [m.subject for m in measured if m.subject.title not in scores]
        scores |= score(fewer, settings.chunks)
    uniform = next(m for m in measured if m.subject.reference is None)
    return {
        "results": [{**row, "split_figures": scores.get(row["approach"])} for row in rows],
        "settings": {
            **dataclasses.asdict(settings),
            "configs": configs,
            "checkpoints": checkpoints,
            "usage": list(usages),
            "overrides": list(overrides),
        },
        "machine": describe_machine(),
        "versions": package_versions(),
        "peak_memory": peak,
        "torch": torch_ratios(uniform, extra_seconds) if extra else None,
    }


def choose_settings(
    *,
    batch: int | None = None,
    repetitions: int | None = None,
    chunks: Chunks | None = None,
    quick: bool = False,
    progress: bool = True,
) -> Settings:
    """Settings that suit the devices, where none are given.

    Args:
        batch: of videos; 4 on a CPU and 32 elsewhere by default.
        repetitions: rounds; 5 by default, or 2 if `quick`.
        chunks: sizes of chunk of the routed form; measured ones by default.
        quick: few calls, to see that it runs.
        progress: whether to show progress bars.

    Raises:
        UserError: an impossible number, or a batch that does not divide over the devices.
    """
    if batch is None:
        batch = _BATCH_ON_CPU if jax.default_backend() == "cpu" else _BATCH_ELSEWHERE
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
        batch=batch, repetitions=repetitions, chunks=chunks, quick=quick, progress=progress
    )


@contextlib.contextmanager
def _compiling_anew() -> Iterator[None]:
    """Without JAX's cache: a program found compiled would hide what compiling costs."""
    keeps = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", keeps)


def _only_uniform(subjects: Sequence[Subject]) -> Subject:
    uniforms = [s for s in subjects if s.reference is None]
    if len(uniforms) > 1:
        raise UserError(
            "--against_torch: these configs have several Uniforms "
            f"({', '.join(s.title for s in uniforms)}); give configs that share one"
        )
    return uniforms[0]
