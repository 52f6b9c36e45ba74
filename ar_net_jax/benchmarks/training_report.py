"""A benchmark of training on the terminal: a table of the steps, and what feeds them."""

import math
from typing import Any

import jax
import rich.box
import rich.console
import rich.table

Row = dict[str, Any]


def print_training_benchmark(document: Row) -> None:
    """Prints what `benchmark_training` returned."""
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
