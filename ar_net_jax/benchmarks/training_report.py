"""A benchmark of training on the terminal: a table of the steps, and what feeds them."""

import math

import jax
import rich.box
import rich.console
import rich.table

from ar_net_jax.benchmarks.training import TrainingBenchmark
from ar_net_jax.reporting.console import standard_output


def print_training_benchmark(found: TrainingBenchmark) -> None:
    """Prints what `benchmark_training` returned."""
    console = standard_output()
    data, pipeline = found.config.data, found.pipeline
    if found.steps:
        console.print(_step_table(found))
    if pipeline is None:
        return
    how = "workers" if data.num_workers else "threads"
    per_core = pipeline.frames_per_second_per_core
    console.print(
        f"input pipeline: {pipeline.frames_per_second:.0f} frames/s on {pipeline.cores} cores "
        f"({how}), {per_core:.0f} per core, from JPEG frames of "
        f"{pipeline.bytes_per_frame / 1e3:.0f} kB"
    )
    for row in found.steps:
        if not row.by_torch:
            frames = row.clips_per_second * data.num_frames
            cores = math.ceil(frames / per_core)
            console.print(f"  {row.name} takes {frames:.0f} frames/s: {cores} cores feed it")


def _step_table(found: TrainingBenchmark) -> rich.table.Table:
    data, kind = found.config.data, found.machine.device_kind
    table = rich.table.Table(
        title=f"a step of {data.batch_size} videos x {data.num_frames} frames, "
        f"{found.config.model.dtype}, {jax.device_count()} x {kind}; usage {found.usage}",
        box=rich.box.SIMPLE,
    )
    table.add_column("step")
    for column in ("seconds", "clips/s", "TFLOP/s", "of peak", "of masked", "of torch"):
        table.add_column(column, justify="right")
    torch = [row.seconds for row in found.steps if row.by_torch]
    for row in found.steps:
        ratio = row.seconds / min(torch) if torch and not row.by_torch else None
        table.add_row(
            row.name,
            f"{row.seconds:.3g}",
            f"{row.clips_per_second:.3g}",
            _or_blank(row.tflops_per_second, ".3g"),
            _or_blank(row.share_of_peak, ".1%"),
            _or_blank(row.of_masked, ".2f"),
            _or_blank(ratio, ".2f"),
        )
    return table


def _or_blank(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
