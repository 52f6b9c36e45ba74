r"""Measures a training step of every stage, and how fast the input pipeline feeds it.

Weights and frames are random. All steps are timed in turn, round after round, with the device
waited for; each right after one of its own kind, as in training. A stage under a frozen policy is
measured in its masked and in its routed form, under an imposed usage (see `arnet benchmark
--help`). The pipeline decodes, crops and batches drawn JPEG frames of 340 x 256.

Examples:
  arnet benchmark_training --config=activitynet --config.data.batch_size=2 \
      --config.model.dtype=float32 --against_torch
  arnet benchmark_training --config=activitynet --peak_tflops=989 --json=training.json
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import rich.box
import rich.console
import rich.table

from ar_net_jax.benchmarks.machine import describe_machine, peak_memory
from ar_net_jax.benchmarks.pipeline_rate import measure_pipeline
from ar_net_jax.benchmarks.timing import time_interleaved
from ar_net_jax.benchmarks.training_calls import stage_calls, torch_calls
from ar_net_jax.costs.model_costs import model_cost_table
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.reporting.tables import package_versions

Row = dict[str, Any]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "--config", required=True, metavar="NAME[:variant]", help="a shipped config, or a file"
    )
    parser.add_argument(
        "--usage",
        default="half",
        metavar="half|quarter|A,B,...",
        help="shares or numbers of frames per action under a frozen policy (default: %(default)s)",
    )
    parser.add_argument(
        "--repetitions", type=int, default=5, metavar="N", help="rounds (default: %(default)s)"
    )
    parser.add_argument(
        "--peak_tflops",
        type=float,
        metavar="X",
        help="of all devices together, to print the share of it that the steps reach",
    )
    parser.add_argument(
        "--against_torch",
        action="store_true",
        help="time torchvision's networks in the same rounds (needs the extra parity)",
    )
    parser.add_argument(
        "--only",
        choices=("steps", "pipeline"),
        help="measure only the one (default: both, one after the other)",
    )
    parser.add_argument("--json", metavar="FILE", help="where to write the figures as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    if flags.repetitions < 1:
        raise UserError(f"--repetitions: must be at least 1, got {flags.repetitions}")
    config = load_config(flags.config, overrides)
    rows = [] if flags.only == "pipeline" else _steps(config, flags)
    pipeline = None if flags.only == "steps" else measure_pipeline(config)
    document = {
        "steps": rows,
        "pipeline": pipeline,
        "usage": flags.usage,
        "config": config.to_dict(),
        "machine": describe_machine(),
        "peak_memory": peak_memory(),
        "versions": package_versions(),
    }
    _print(document)
    if flags.json:
        Path(flags.json).write_text(json.dumps(document, indent=2) + "\n")
        print(f"figures: {flags.json}")


def _steps(config: Config, flags: argparse.Namespace) -> list[Row]:
    """One row for each call: seconds of a step, and what follows from them."""
    # First, because what is missing shows here, and our own steps take minutes to compile.
    others = torch_calls(config) if flags.against_torch else {}
    calls = stage_calls(config, flags.usage) | others
    seconds = time_interleaved(
        calls, flags.repetitions, warm_up=True, title="steps", progress=not flags.quiet
    )
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
        if flags.peak_tflops and not routed:
            row["share_of_peak"] = row["tflops_per_second"] / flags.peak_tflops
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


def _print(document: Row) -> None:
    console = rich.console.Console()
    config, pipeline = document["config"], document["pipeline"]
    if document["steps"]:
        console.print(_step_table(document))
    if pipeline is None:
        return
    how = "workers" if config["data"]["num_workers"] else "threads"
    rate, per_core = pipeline["frames_per_second"], pipeline["frames_per_second_per_core"]
    console.print(
        f"input pipeline: {rate:.0f} frames/s on {pipeline['cores']} cores ({how}), "
        f"{per_core:.0f} per core, from JPEG frames of {pipeline['bytes_per_frame'] / 1e3:.0f} kB"
    )
    for row in document["steps"]:
        if not row["name"].startswith("torch"):
            frames = row["clips_per_second"] * config["data"]["num_frames"]
            cores = math.ceil(frames / per_core)
            console.print(f"  {row['name']} takes {frames:.0f} frames/s: {cores} cores feed it")


def _step_table(document: Row) -> rich.table.Table:
    data, model = document["config"]["data"], document["config"]["model"]
    count, kind = jax.device_count(), document["machine"]["device_kind"]
    table = rich.table.Table(
        title=f"a step of {data['batch_size']} videos x {data['num_frames']} frames, "
        f"{model['dtype']}, {count} x {kind}; usage {document['usage']}",
        box=rich.box.SIMPLE,
    )
    table.add_column("step")
    for column in ("seconds", "clips/s", "TFLOP/s", "of peak", "of masked", "of torch"):
        table.add_column(column, justify="right")
    torch = [row["seconds"] for row in document["steps"] if row["name"].startswith("torch")]
    for row in document["steps"]:
        own = not row["name"].startswith("torch")
        ratio = row["seconds"] / min(torch) if torch and own else None
        table.add_row(
            row["name"],
            f"{row['seconds']:.3g}",
            f"{row['clips_per_second']:.3g}",
            _or_blank(row["tflops_per_second"], ".3g"),
            _or_blank(row.get("share_of_peak"), ".1%"),
            _or_blank(row.get("of_masked"), ".2f"),
            _or_blank(ratio, ".2f"),
        )
    return table


def _or_blank(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
