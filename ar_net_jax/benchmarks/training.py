"""How long a training step of every stage takes, and how fast the input pipeline feeds it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ar_net_jax.benchmarks.machine import Machine, PeakMemory, describe_machine, peak_memory
from ar_net_jax.benchmarks.pipeline_rate import PipelineRate, measure_pipeline
from ar_net_jax.benchmarks.training_calls import StepCall, stage_calls, torch_step_calls
from ar_net_jax.costs import total_gflops
from ar_net_jax.experiment import Config
from ar_net_jax.runtime.compilation import tell_compiling
from ar_net_jax.runtime.timing import time_interleaved
from ar_net_jax.runtime.versions import package_versions
from ar_net_jax.training.batch_size import for_a_full_batch


@dataclasses.dataclass(frozen=True)
class StepRow:
    """A timed training step.

    Attributes:
        name: of the row.
        stage: that it belongs to; for PyTorch's the layout.
        form: `masked` or `routed`.
        by_torch: whether PyTorch runs it.
        seconds: median.
        clips_per_second: videos of the batch in that time.
        tflops_per_second: of every network on every frame; None for the routed form.
        share_of_peak: of what the devices can do at most; None where that is not known.
        of_masked: of the routed form, its time as a share of the masked form's; else None.
    """

    name: str
    stage: str
    form: str
    by_torch: bool
    seconds: float
    clips_per_second: float
    tflops_per_second: float | None
    share_of_peak: float | None
    of_masked: float | None


@dataclasses.dataclass(frozen=True)
class TrainingBenchmark:
    """What was measured, and what it depends on.

    Attributes:
        steps: a row for each call; empty where they were not measured.
        pipeline: None where it was not measured.
        usage: of the choices in stages whose decisions are settled.
        config: of the run.
        machine: that it ran on.
        peak_memory: of the measurement.
        versions: of packages.
    """

    steps: tuple[StepRow, ...]
    pipeline: PipelineRate | None
    usage: str
    config: Config
    machine: Machine
    peak_memory: PeakMemory
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**dataclasses.asdict(self), "config": self.config.to_dict()}


def benchmark_training(
    config: Config,
    usage: str = "half",
    repetitions: int = 5,
    *,
    stages: Sequence[str] = (),
    steps: bool = True,
    pipeline: bool = True,
    peak_tflops: float | None = None,
    against_torch: bool = False,
    progress: bool = True,
) -> TrainingBenchmark:
    """Measures training on random weights and frames; all steps are timed in turn.

    Args:
        config: the run.
        usage: of the choices where decisions are settled, see `read_usage`.
        repetitions: rounds.
        stages: names of those whose steps are measured; all by default.
        steps: whether to measure the steps.
        pipeline: whether to measure the input pipeline.
        peak_tflops: of all devices together.
        against_torch: whether to time torchvision's networks in the same rounds.
        progress: whether to show a progress bar.

    Raises:
        UserError: a usage or batch that does not fit, or torch is missing.
    """
    config = for_a_full_batch(config)
    rows: list[StepRow] = []
    if steps:
        # First, because what is missing shows here, and our own steps take minutes to compile.
        others = torch_step_calls(config) if against_torch else []
        tell_compiling(f"the training steps of {', '.join(stages or config.stage_order)}")
        calls = [*stage_calls(config, usage, stages=stages), *others]
        seconds = time_interleaved(
            {i: step.call for i, step in enumerate(calls)},
            repetitions,
            warm_up=True,
            title="steps",
            progress=progress,
        )
        medians = [float(np.median(seconds[i])) for i in range(len(calls))]
        rows = step_rows(config, calls, medians, peak_tflops)
    return TrainingBenchmark(
        steps=tuple(rows),
        pipeline=measure_pipeline(config) if pipeline else None,
        usage=usage,
        config=config,
        machine=describe_machine(),
        peak_memory=peak_memory(),
        versions=package_versions(),
    )


def step_rows(
    config: Config, calls: Sequence[StepCall], seconds: Sequence[float], peak_tflops: float | None
) -> list[StepRow]:
    """One row for each call.

    Args:
        config: of the run.
        calls: that were timed.
        seconds: of each of them.
        peak_tflops: of all devices together.
    """
    flops = step_flops(config)
    timed = list(zip(calls, seconds, strict=True))
    masked = {c.stage: s for c, s in timed if c.form == "masked" and not c.by_torch}
    rows = []
    for step, time in timed:
        routed = step.form == "routed"
        rate = None if routed else flops / time / 1e12
        rows.append(
            StepRow(
                name=step.title,
                stage=step.stage,
                form=step.form,
                by_torch=step.by_torch,
                seconds=time,
                clips_per_second=config.data.batch_size / time,
                tflops_per_second=rate,
                share_of_peak=rate / peak_tflops if rate and peak_tflops else None,
                of_masked=time / masked[step.stage] if routed else None,
            )
        )
    return rows


def step_flops(config: Config) -> float:
    """FLOPs of a masked training step: every network on every frame, three forward passes' worth.

    Two for each multiply-accumulate; forward once, backward twice; the rest of the step is left
    out, and so is recomputation.
    """
    networks = config.build_method().networks()
    per_frame = total_gflops(networks, dict.fromkeys(networks, 1.0), "macs")
    return 6e9 * per_frame * config.data.batch_size * config.data.num_frames
