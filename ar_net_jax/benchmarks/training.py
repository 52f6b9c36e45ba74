"""How long a training step of every stage takes, and how fast the input pipeline feeds it."""

from typing import Any

import numpy as np

from ar_net_jax.benchmarks.machine import describe_machine, peak_memory
from ar_net_jax.benchmarks.pipeline_rate import measure_pipeline
from ar_net_jax.benchmarks.training_calls import stage_calls, torch_step_calls
from ar_net_jax.costs.model_costs import model_cost_table
from ar_net_jax.experiment import Config
from ar_net_jax.runtime.timing import time_interleaved
from ar_net_jax.runtime.versions import package_versions

Row = dict[str, Any]


def benchmark_training(
    config: Config,
    usage: str = "half",
    repetitions: int = 5,
    *,
    steps: bool = True,
    pipeline: bool = True,
    peak_tflops: float | None = None,
    against_torch: bool = False,
    progress: bool = True,
) -> Row:
    """Measures training on random weights and frames; all steps are timed in turn.

    Args:
        config: the run.
        usage: of the actions under a frozen policy, see `read_usage`.
        repetitions: rounds.
        steps: whether to measure the steps.
        pipeline: whether to measure the input pipeline.
        peak_tflops: of all devices together.
        against_torch: whether to time torchvision's networks in the same rounds.
        progress: whether to show a progress bar.

    Returns:
        As JSON holds it: `steps`, a row for each call with `name`, `seconds`, `clips_per_second`,
        `tflops_per_second` (None for the routed form), and where they can be told
        `share_of_peak` and `of_masked`; `pipeline` from `measure_pipeline` or None; `usage`,
        `config`, `machine`, `peak_memory` and `versions`.

    Raises:
        UserError: a usage or batch that does not fit, or torch is missing.
    """
    rows = []
    if steps:
        # First, because what is missing shows here, and our own steps take minutes to compile.
        others = torch_step_calls(config) if against_torch else {}
        calls = stage_calls(config, usage) | others
        seconds = time_interleaved(
            calls, repetitions, warm_up=True, title="steps", progress=progress
        )
        rows = _step_rows(config, seconds, peak_tflops)
    return {
        "steps": rows,
        "pipeline": measure_pipeline(config) if pipeline else None,
        "usage": usage,
        "config": config.to_dict(),
        "machine": describe_machine(),
        "peak_memory": peak_memory(),
        "versions": package_versions(),
    }


def _step_rows(
    config: Config, seconds: dict[str, np.ndarray], peak_tflops: float | None
) -> list[Row]:
    """One row for each call: seconds of a step, and what follows from them."""
    flops = step_flops(config)
    rows = []
    for name, times in seconds.items():
        median = float(np.median(times))
        routed = name.endswith(", routed")
        row = {
            "name": name,
            "seconds": median,
            "clips_per_second": config.data.batch_size / median,
            "tflops_per_second": None if routed else flops / median / 1e12,
        }
        if peak_tflops and not routed:
            row["share_of_peak"] = row["tflops_per_second"] / peak_tflops
        if routed:
            row["of_masked"] = median / float(np.median(seconds[name.replace("routed", "masked")]))
        rows.append(row)
    return rows


def step_flops(config: Config) -> float:
    """FLOPs of a masked training step: every network on every frame, three forward passes' worth.

    Two for each multiply-accumulate; forward once, backward twice; the rest of the step is left
    out, and so is recomputation.
    """
    table = model_cost_table(config.model, "macs")
    per_frame = sum(table.actions) + table.policy + table.lstm
    return 6e9 * per_frame * config.data.batch_size * config.data.num_frames
