"""What a benchmark leaves behind: tables on the terminal and in Markdown, JSON, two curves."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import rich.box
import rich.console
import rich.table

from ar_net_jax.benchmarks.rows import BenchmarkRow, PartTime
from ar_net_jax.benchmarks.run import Benchmark
from ar_net_jax.evaluation.comparison import Role
from ar_net_jax.reporting.console import standard_output
from ar_net_jax.reporting.curve import Point, gflops_label, plot_curve
from ar_net_jax.reporting.tables import aligned_table, plain_json

Rows = Sequence[BenchmarkRow]


@dataclass(frozen=True)
class _Table:
    """A table as text: `roles` of the rows where they are models, else empty."""

    title: str
    header: list[str]
    cells: list[list[str]]
    roles: tuple[Role, ...] = ()


def write_benchmark(directory: Path, benchmark: Benchmark) -> list[str]:
    """Writes `benchmark.json`, `benchmark.md` and, where anything was scored, the curves.

    Args:
        directory: made if need be.
        benchmark: what was found.

    Returns:
        Names of the files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain_json(benchmark.to_json()), indent=2) + "\n"
    (directory / "benchmark.json").write_text(text, encoding="utf-8")
    (directory / "benchmark.md").write_text(_markdown(benchmark), encoding="utf-8")
    files = ["benchmark.json", "benchmark.md"]
    scored = [(row, row.split_figures) for row in benchmark.rows if row.split_figures]
    if scored:
        by_cost = [Point(r.method, r.role, f.gflops_per_video, f.mAP) for r, f in scored]
        label = gflops_label(f.gflops_convention for _, f in scored)
        plot_curve(directory / "curve.png", by_cost, label)
        by_time = [Point(r.method, r.role, 1e3 / r.videos_per_second, f.mAP) for r, f in scored]
        batch, device = benchmark.settings.batch, benchmark.machine.device_kind
        label = f"measured milliseconds per video (batch {batch}, {device}; log scale)"
        plot_curve(directory / "curve_time.png", by_time, label)
        files += ["curve.png", "curve_time.png"]
    return files


def print_benchmark(benchmark: Benchmark, console: rich.console.Console | None = None) -> None:
    """Prints the tables; to the terminal where no console is given."""
    console = console or standard_output()
    for found in _tables(benchmark):
        # Tight, so that eight columns fit into a terminal of 80.
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
        console.print(f"\n{found.title}", style="bold")
        for index, column in enumerate(found.header):
            table.add_column(column, justify="right" if index else "left", no_wrap=not index)
        for line, role in itertools.zip_longest(found.cells, found.roles):
            table.add_row(*line, style="bold green" if role == "adaptive" else None)
        console.print(table)
    console.print()
    for line in _remarks(benchmark):
        console.print(line, style="dim")


def _markdown(benchmark: Benchmark) -> str:
    parts = []
    for table in _tables(benchmark):
        parts += [f"## {table.title}", aligned_table(table.header, table.cells)]
    parts.append("\n".join(f"- {line}" for line in _remarks(benchmark)))
    return "\n\n".join(parts) + "\n"


def _tables(benchmark: Benchmark) -> list[_Table]:
    rows, batch = benchmark.rows, benchmark.settings.batch
    tables = [_speed_table(rows, batch), _latency_table(rows, batch), _parts_table(rows)]
    cells = [
        [name, f"{t.seconds:.3f}", f"{t.uniform_seconds:.3f}", f"{t.ratio:.2f}"]
        for name, t in benchmark.torch.items()
    ]
    header = ["PyTorch", "Seconds", "Uniform's", "Uniform / PyTorch"]
    tables.append(_Table("Uniform beside PyTorch on the same frames", header, cells))
    return [table for table in tables if table.cells]


def _speed_table(rows: Rows, batch: int) -> _Table:
    header = [
        "Method",
        "GFLOPs per video",
        "Executed per video",
        "Videos/s",
        "Time",
        "GFLOPs",
        "Realised",
    ]
    scored = any(row.split_figures for row in rows)
    if scored:
        header.insert(1, "mAP")
    cells = []
    for row in rows:
        ratios = [""] * 3
        if row.ratios is not None:
            saving = row.ratios.realised_saving
            ratios = [f"{row.ratios.time_ratio:.3f}", f"{row.ratios.gflops_ratio:.3f}"]
            ratios.append("" if saving is None else f"{saving:.3f}")
        line = [
            row.method,
            _digits(row.gflops_per_video[row.gflops_convention]),
            _digits(row.executed_gflops_per_video[row.gflops_convention]),
            _digits(row.videos_per_second),
            *ratios,
        ]
        if scored:
            line.insert(1, f"{row.split_figures.mAP:.1f}" if row.split_figures else "")
        cells.append(line)
    title = f"Batch of {batch} videos; time and GFLOPs as shares of Uniform's"
    return _Table(title, header, cells, tuple(row.role for row in rows))


def _latency_table(rows: Rows, batch: int) -> _Table:
    header = ["Method", "1: p50", "p99", f"{batch}: p50", "p99"]
    header += ["decoded/s", "MiB", "compile s"]
    cells = []
    for row in rows:
        latencies = (row.latency_seconds[key] for key in ("batch_1", "batch"))
        times = [1e3 * time for latency in latencies for time in (latency.p50, latency.p99)]
        cells.append(
            [
                row.method,
                *(_digits(time) for time in times),
                _digits(row.with_decoding.videos_per_second),
                "" if row.program_bytes is None else f"{row.program_bytes / 2**20:.0f}",
                f"{row.compile_seconds:.1f}",
            ]
        )
    title = f"Latency in ms at batch 1 and {batch}; videos/s with decoding; memory of the program"
    return _Table(title, header, cells, tuple(row.role for row in rows))


def _parts_table(rows: Rows) -> _Table:
    parted = {row.method: row.parts for row in rows if row.parts}
    names = list(dict.fromkeys(n for parts in parted.values() for n in parts if n != "rest"))
    cells = [
        [method, *(_percent(parts.get(name)) for name in (*names, "rest"))]
        for method, parts in parted.items()
    ]
    title = "Share of time by part, each timed by itself; together they may take longer"
    roles = tuple(row.role for row in rows if row.parts)
    return _Table(title, ["Method", *names, "rest"], cells, roles)


def _remarks(benchmark: Benchmark) -> list[str]:
    """What the figures depend on, in a few lines."""
    rows, machine = benchmark.rows, benchmark.machine
    where = machine.cpu + f", {machine.cores} cores"
    if machine.platform != "cpu":
        where = f"{machine.devices} x {machine.device_kind} ({where})"
    elif machine.devices > 1:
        where += f" as {machine.devices} devices"
    versions = " ".join(f"{name} {benchmark.versions[name]}" for name in ("jax", "jaxlib"))
    types = ", ".join(dict.fromkeys(row.dtype for row in rows))
    conventions = ", ".join(dict.fromkeys(row.gflops_convention for row in rows))
    memory, rounds = benchmark.peak_memory, benchmark.settings.repetitions
    lines = [
        f"{where}; {versions}; {types}; medians of {rounds} interleaved rounds",
        f"GFLOPs ({conventions}) per video that were needed, and executed: with the filling of "
        "chunks and the policy's work on covered frames",
        "realised: (1 - time ratio) / (1 - GFLOPs ratio)",
        f"memory at most: {memory.bytes / 2**20:.0f} MiB ({memory.source})",
    ]
    for row in rows:
        waste = row.waste
        if waste.filling_share + waste.covered_share > 0:
            lines.append(
                f"{row.method}: {waste.filling_share:.1%} of the executed GFLOPs fill chunks, "
                f"{waste.covered_share:.1%} are the policy's on covered frames"
            )
        if machine.devices > 1 and waste.device_imbalance > 1:
            lines.append(
                f"{row.method}: the busiest device executes {waste.device_imbalance:.2f} times "
                "the mean"
            )
    return lines


def _digits(value: float) -> str:
    """Three significant digits or all whole ones, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _percent(part: PartTime | None) -> str:
    # Parts that overlap within the model, or take fewer frames at once, leave no rest.
    return "" if part is None else f"{max(part.share, 0.0):.1%}"
