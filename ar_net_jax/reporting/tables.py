"""What a comparison leaves behind: results.json, table.md, curve.png, a table on the terminal."""

import itertools
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import rich.box
import rich.console
import rich.table
import tabulate

from ar_net_jax.config.model import Convention
from ar_net_jax.evaluation.comparison import Row
from ar_net_jax.evaluation.evaluate import Speed
from ar_net_jax.reporting.console import standard_output
from ar_net_jax.reporting.curve import Point, gflops_label, plot_curve

# On a terminal these break after the slash, so that 80 columns hold them.
_COLUMNS = ("Method", "mAP (%)", "Top-1 (%)", "GFLOPs/frame", "GFLOPs/video", "Counted")
_SPEED = "Videos/s"
_CONVENTIONS: dict[Convention, str] = {
    "macs": "`macs`: multiply-accumulates of convolutions and matrix products, in 1e9",
    "paper": (
        "`paper`: multiply-accumulates in 1e9 plus two per BatchNorm output, the paper's LSTM "
        "formula and the published EfficientNet figures"
    ),
}


def write_report(
    directory: str | os.PathLike[str],
    rows: Sequence[Row],
    context: Mapping[str, Any],
    *,
    remark: str = "",
) -> None:
    """Writes `results.json`, `table.md` and `curve.png`.

    Args:
        directory: made if need be.
        rows: of the comparison. Speed gets a column where all have it.
        context: what stands beside `results` in `results.json`: `config`, `seed`, `versions`,
            `durations` (seconds), `chance` (`metrics.chance_level`), and anything more. Tuples
            become lists, numpy values numbers, non-finite numbers null.
        remark: stands above the table.
    """
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    document = plain_json({"results": [row.to_json() for row in rows], **context})
    (folder / "results.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    chance = context.get("chance")
    table = markdown_table(rows, chance)
    (folder / "table.md").write_text(f"{remark}\n\n{table}" if remark else table, encoding="utf-8")
    points = [
        Point(row.method, row.role, row.figures.gflops_per_video, row.figures.mAP) for row in rows
    ]
    label = gflops_label(row.figures.gflops_convention for row in rows)
    plot_curve(folder / "curve.png", points, label, chance["mAP"] if chance else None)


def markdown_table(rows: Sequence[Row], chance: Mapping[str, float] | None = None) -> str:
    """The comparison as Markdown: figures, how they were counted, and what was chosen.

    Args:
        rows: of the comparison.
        chance: `mAP` and `top1` in percent of guessing; its row comes last.

    Returns:
        Markdown, its columns aligned for reading as plain text too.
    """
    cells = _cells(rows, chance)
    for line, row in zip(cells, rows):
        if row.role == "adaptive":
            line[0] = f"**{line[0]}**"
    parts = [aligned_table(_columns(rows), cells)]
    counted = dict.fromkeys(row.figures.gflops_convention for row in rows)
    parts.append(
        "GFLOPs per frame and per video (all of its sampled frames), counted as "
        + "; ".join(_CONVENTIONS[name] for name in counted)
        + "."
    )
    speeds = _speeds(rows)
    if speeds:
        parts.append(
            "Videos/s: measured on this machine, the model alone, "
            f"{speeds[0].speed_batch_size} videos at once."
        )
    usages = {row.method: row.figures.usage for row in rows if row.figures.usage}
    if usages:
        names = list(dict.fromkeys(name for usage in usages.values() for name in usage))
        shares = [
            [method, *(_share(usage.get(name)) for name in names)]
            for method, usage in usages.items()
        ]
        parts.append("Share of frames on which the policy took each action:")
        parts.append(aligned_table(["Method", *names], shares))
    return "\n\n".join(parts) + "\n"


def print_table(
    rows: Sequence[Row],
    chance: Mapping[str, float] | None = None,
    *,
    console: rich.console.Console | None = None,
) -> None:
    """Prints the comparison on the terminal, adaptive methods in bold.

    Args:
        rows: of the comparison.
        chance: as for `markdown_table`.
        console: where to; the terminal by default.
    """
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    columns = _columns(rows)
    for column, align in zip(columns, _alignments(len(columns))):
        column = column.replace("GFLOPs/", "GFLOPs/\n")
        table.add_column(column, justify=align, no_wrap=align == "right")
    styles = ["bold green" if row.role == "adaptive" else None for row in rows]
    for line, style in zip(_cells(rows, chance), [*styles, "dim"]):
        table.add_row(*line, style=style)
    (console or standard_output()).print(table)


def _cells(rows: Sequence[Row], chance: Mapping[str, float] | None) -> list[list[str]]:
    lines = [
        [
            row.method,
            f"{row.figures.mAP:.1f}",
            f"{row.figures.top1:.1f}",
            _gflops(row.figures.gflops_per_frame),
            _gflops(row.figures.gflops_per_video),
            row.figures.gflops_convention,
        ]
        for row in rows
    ]
    if chance is not None:
        lines.append(["Chance", f"{chance['mAP']:.1f}", f"{chance['top1']:.1f}", "", "", ""])
    speeds = _speeds(rows)
    if speeds:
        for line, speed in itertools.zip_longest(lines, speeds):
            line.append(f"{speed.videos_per_second:.0f}" if speed else "")
    return lines


def _columns(rows: Sequence[Row]) -> tuple[str, ...]:
    return (*_COLUMNS, _SPEED) if _speeds(rows) else _COLUMNS


def _speeds(rows: Sequence[Row]) -> list[Speed]:
    """Speed of every row; empty where one has none."""
    speeds = [row.speed for row in rows if row.speed is not None]
    return speeds if len(speeds) == len(rows) else []


def _gflops(value: float) -> str:
    """Three significant digits: models for small data cost hundredths of a GFLOP."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 2
    return f"{value:.{max(digits, 0)}f}"


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"


def _alignments(columns: int) -> list[Literal["left", "right"]]:
    return ["left" if i == 0 else "right" for i in range(columns)]


def aligned_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that its source lines up; the first column to the left."""
    return tabulate.tabulate(
        rows,
        header,
        tablefmt="pipe",
        colalign=_alignments(len(header)),
        disable_numparse=True,  # Figures come as they are to stand.
    )


def plain_json(value: Any) -> Any:
    """The value as JSON holds it: tuples as lists, no NumPy, non-finite numbers as null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
