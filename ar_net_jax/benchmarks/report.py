"""What a benchmark leaves behind: tables on the terminal and in Markdown, JSON, two curves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.box
import rich.console
import rich.table

from ar_net_jax.reporting.curve import plot_curve
from ar_net_jax.reporting.tables import aligned_table, plain_json

Row = Mapping[str, Any]
Table = tuple[str, Sequence[str], list[list[str]]]


def write_benchmark(directory: Path, document: Mapping[str, Any]) -> list[str]:
    """Writes `benchmark.json`, `benchmark.md` and, where anything was scored, the curves.

    Args:
        directory: made if need be.
        document: `results` (rows of `benchmark_rows`, with `split_figures`: the row of
            `evaluate_model` or None), `machine`, `settings`, `versions`, `peak_memory` and
            `torch` (see `torch_ratios`), or None.

    Returns:
        Names of the files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain_json(document), indent=2) + "\n"
    (directory / "benchmark.json").write_text(text, encoding="utf-8")
    (directory / "benchmark.md").write_text(_markdown(document), encoding="utf-8")
    files = ["benchmark.json", "benchmark.md"]
    points = [_point(row) for row in document["results"] if row["split_figures"]]
    if points:
        plot_curve(directory / "curve.png", points)
        batch, device = document["settings"]["batch"], document["machine"]["device_kind"]
        plot_curve(
            directory / "curve_time.png",
            points,
            x="milliseconds",
            x_label=f"measured milliseconds per video (batch {batch}, {device}; log scale)",
        )
        files += ["curve.png", "curve_time.png"]
    return files


def print_benchmark(
    document: Mapping[str, Any], console: rich.console.Console | None = None
) -> None:
    """Prints the tables; to the terminal where no console is given."""
    console = console or rich.console.Console()
    for title, header, cells in _tables(document):
        # Tight, so that eight columns fit into a terminal of 80.
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
        console.print(f"\n{title}", style="bold")
        for index, column in enumerate(header):
            table.add_column(column, justify="right" if index else "left", no_wrap=not index)
        for row in cells:
            table.add_row(*row, style="bold green" if row[0].startswith("AR-Net") else None)
        console.print(table)
    console.print()
    for line in _remarks(document):
        console.print(line, style="dim")


def _markdown(document: Mapping[str, Any]) -> str:
    parts = []
    for title, header, cells in _tables(document):
        parts += [f"## {title}", aligned_table(header, cells)]
    parts.append("\n".join(f"- {line}" for line in _remarks(document)))
    return "\n\n".join(parts) + "\n"


def _tables(document: Mapping[str, Any]) -> list[Table]:
    rows, batch = document["results"], document["settings"]["batch"]
    tables = [
        _speed_table(rows, batch),
        _latency_table(rows, batch),
        _parts_table(rows),
    ]
    if document["torch"]:
        header = ["PyTorch", "Seconds", "Uniform's", "Uniform / PyTorch"]
        cells = [
            [name, f"{t['seconds']:.3f}", f"{t['uniform_seconds']:.3f}", f"{t['ratio']:.2f}"]
            for name, t in document["torch"].items()
        ]
        tables.append(("Uniform beside PyTorch on the same frames", header, cells))
    return [table for table in tables if table[2]]


def _speed_table(rows: Sequence[Row], batch: int) -> Table:
    header = ["Approach", "GFLOPs/V", "Executed", "Videos/s", "Time", "GFLOPs", "Realised"]
    scored = any(row["split_figures"] for row in rows)
    if scored:
        header.insert(1, "mAP")
    cells = []
    for row in rows:
        convention = row["gflops_convention"]
        line = [
            row["approach"],
            _digits(row["gflops_per_video"][convention]),
            _digits(row["executed_gflops_per_video"][convention]),
            _digits(row["videos_per_second"]),
            *(_ratio(row[key]) for key in ("time_ratio", "gflops_ratio", "realised_saving")),
        ]
        if scored:
            figures = row["split_figures"]
            line.insert(1, f"{figures['mAP']:.1f}" if figures else "")
        cells.append(line)
    return f"Batch of {batch} videos; time and GFLOPs as shares of Uniform's", header, cells


def _latency_table(rows: Sequence[Row], batch: int) -> Table:
    header = ["Approach", "1: p50", "p99", f"{batch}: p50", "p99"]
    header += ["decoded/s", "MiB", "compile s"]
    cells = []
    for row in rows:
        single, large = (row["latency_seconds"][key] for key in ("batch_1", "batch"))
        times = [1e3 * entry[p] for entry in (single, large) for p in ("p50", "p99")]
        cells.append(
            [
                row["approach"],
                *(_digits(time) for time in times),
                _digits(row["with_decoding"]["videos_per_second"]),
                "" if row["program_bytes"] is None else f"{row['program_bytes'] / 2**20:.0f}",
                f"{row['compile_seconds']:.1f}",
            ]
        )
    title = f"Latency in ms at batch 1 and {batch}; videos/s with decoding; memory of the program"
    return title, header, cells


def _parts_table(rows: Sequence[Row]) -> Table:
    parted = [row for row in rows if row["parts"]]
    names = list(dict.fromkeys(n for row in parted for n in row["parts"] if n != "rest"))
    cells = [
        [row["approach"], *(_percent(row["parts"].get(name)) for name in (*names, "rest"))]
        for row in parted
    ]
    return "Share of time by part, each timed by itself", ["Approach", *names, "rest"], cells


def _remarks(document: Mapping[str, Any]) -> list[str]:
    """What the figures depend on, in a few lines."""
    rows, machine = document["results"], document["machine"]
    settings, memory = document["settings"], document["peak_memory"]
    where = machine["cpu"] + f", {machine['cores']} cores"
    if machine["platform"] != "cpu":
        where = f"{machine['devices']} x {machine['device_kind']} ({where})"
    elif machine["devices"] > 1:
        where += f" as {machine['devices']} devices"
    versions = " ".join(f"{name} {document['versions'][name]}" for name in ("jax", "jaxlib"))
    types = ", ".join(dict.fromkeys(row["dtype"] for row in rows))
    conventions = ", ".join(dict.fromkeys(row["gflops_convention"] for row in rows))
    lines = [
        f"{where}; {versions}; {types}; medians of {settings['repetitions']} interleaved rounds",
        f"GFLOPs ({conventions}) per video by the usage formula, and executed: with the filling "
        "of chunks and the policy's work on covered frames",
        "realised: (1 - time ratio) / (1 - GFLOPs ratio)",
        f"memory at most: {memory['bytes'] / 2**20:.0f} MiB ({memory['source']})",
    ]
    for row in rows:
        if row["filling_share"] + row["covered_share"] > 0:
            lines.append(
                f"{row['approach']}: {row['filling_share']:.1%} of the executed GFLOPs fill "
                f"chunks, {row['covered_share']:.1%} are the policy's on covered frames"
            )
        if machine["devices"] > 1 and row["device_imbalance"] > 1:
            lines.append(
                f"{row['approach']}: the busiest device executes "
                f"{row['device_imbalance']:.2f} times the mean"
            )
    return lines


def _point(row: Row) -> dict[str, Any]:
    """A point of the curves: accuracy and cost on the whole split, time as measured."""
    figures = row["split_figures"]
    return {
        "approach": row["approach"],
        "mAP": figures["mAP"],
        "gflops_per_video": figures["gflops_per_video"],
        "gflops_convention": figures["gflops_convention"],
        "milliseconds": 1e3 / row["videos_per_second"],
    }


def _digits(value: float) -> str:
    """Three significant digits or all whole ones, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(part: Mapping[str, float] | None) -> str:
    return "" if part is None else f"{part['share']:.1%}"
