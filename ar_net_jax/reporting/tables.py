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

from ar_net_jax.reporting.curve import plot_curve

_REQUIRED = ("approach mAP top1 gflops_per_frame gflops_per_video gflops_convention usage").split()
# Short enough for a terminal of 80 columns; /f and /V, per frame and per video, as in the paper.
_COLUMNS = ("Approach", "mAP (%)", "Top-1 (%)", "GFLOPs/f", "GFLOPs/V", "Counted")
_SPEED = "Videos/s"
_CONVENTIONS = {
    "macs": "`macs`: multiply-accumulates of convolutions and matrix products, in 1e9",
    "paper": (
        "`paper`: multiply-accumulates in 1e9 plus two per BatchNorm output, the paper's LSTM "
        "formula and the published EfficientNet figures"
    ),
}


def write_report(
    directory: str | os.PathLike[str],
    results: Sequence[Mapping[str, Any]],
    context: Mapping[str, Any],
) -> None:
    """Writes `results.json`, `table.md` and `curve.png`.

    Args:
      directory: made if need be.
      results: one mapping per approach with `approach`, `mAP` and `top1` in percent,
        `gflops_per_frame`, `gflops_per_video`, `gflops_convention` and `usage` (action name ->
        share of frames, or None without a policy). With `videos_per_second` and
        `speed_batch_size` in all, speed gets a column. More keys are kept in `results.json`.
      context: what stands beside `results` in `results.json`: `config`, `seed`, `versions`,
        `durations` (seconds), `chance` (`metrics.chance_level`), and anything more. Tuples become
        lists, numpy values numbers, non-finite numbers null.

    Raises:
      ValueError: if a result lacks a key.
    """
    for result in results:
        missing = [key for key in _REQUIRED if key not in result]
        if missing:
            raise ValueError(f"result {result.get('approach')!r} lacks {', '.join(missing)}")
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    document = plain_json({"results": list(results), **context})
    (folder / "results.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    chance = context.get("chance")
    (folder / "table.md").write_text(markdown_table(results, chance), encoding="utf-8")
    plot_curve(folder / "curve.png", results, chance)


def markdown_table(
    results: Sequence[Mapping[str, Any]], chance: Mapping[str, float] | None = None
) -> str:
    """The comparison as Markdown: figures, how they were counted, and what the policies chose.

    Args:
      results: as for `write_report`.
      chance: `mAP` and `top1` in percent of guessing; its row comes last.

    Returns:
      Markdown, its columns aligned for reading as plain text too.
    """
    rows = _rows(results, chance)
    for row, result in zip(rows, results):
        if _is_ours(result):
            row[0] = f"**{row[0]}**"
    parts = [aligned_table(_columns(results), rows)]
    counted = dict.fromkeys(result["gflops_convention"] for result in results)
    parts.append(
        "GFLOPs per frame (/f) and per video (/V, all of its sampled frames), counted as "
        + "; ".join(_CONVENTIONS.get(name, f"`{name}`") for name in counted)
        + "."
    )
    if _is_timed(results):
        size = results[0]["speed_batch_size"]
        parts.append(f"Videos/s: measured on this machine, the model alone, {size} videos at once.")
    with_policy = [result for result in results if result["usage"]]
    if with_policy:
        names = list(dict.fromkeys(name for r in with_policy for name in r["usage"]))
        usage_rows = [
            [r["approach"], *(_share(r["usage"].get(name)) for name in names)] for r in with_policy
        ]
        parts.append("Share of frames on which the policy took each action:")
        parts.append(aligned_table(["Approach", *names], usage_rows))
    return "\n\n".join(parts) + "\n"


def print_table(
    results: Sequence[Mapping[str, Any]],
    chance: Mapping[str, float] | None = None,
    *,
    console: rich.console.Console | None = None,
) -> None:
    """Prints the comparison on the terminal, AR-Net in bold.

    Args:
      results: as for `write_report`.
      chance: as for `markdown_table`.
      console: where to; the terminal by default.
    """
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    columns = _columns(results)
    for column, align in zip(columns, _alignments(len(columns))):
        table.add_column(column, justify=align, no_wrap=align == "right")
    styles = ["bold green" if _is_ours(result) else None for result in results]
    for row, style in zip(_rows(results, chance), [*styles, "dim"]):
        table.add_row(*row, style=style)
    (console or rich.console.Console()).print(table)


def _rows(
    results: Sequence[Mapping[str, Any]], chance: Mapping[str, float] | None
) -> list[list[str]]:
    rows = [
        [
            result["approach"],
            f"{result['mAP']:.1f}",
            f"{result['top1']:.1f}",
            _gflops(result["gflops_per_frame"]),
            _gflops(result["gflops_per_video"]),
            result["gflops_convention"],
        ]
        for result in results
    ]
    if chance is not None:
        rows.append(["Chance", f"{chance['mAP']:.1f}", f"{chance['top1']:.1f}", "", "", ""])
    if _is_timed(results):
        for row, result in itertools.zip_longest(rows, results):
            row.append(f"{result['videos_per_second']:.0f}" if result else "")
    return rows


def _columns(results: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return (*_COLUMNS, _SPEED) if _is_timed(results) else _COLUMNS


def _is_timed(results: Sequence[Mapping[str, Any]]) -> bool:
    return all("videos_per_second" in result for result in results)


def _is_ours(result: Mapping[str, Any]) -> bool:
    return result["approach"].startswith("AR-Net")


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
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    aligns = _alignments(len(header))

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if align == "left" else cell.rjust(width)
            for cell, width, align in zip(cells, widths, aligns, strict=True)
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [
        "-" * width if align == "left" else "-" * (width - 1) + ":"
        for width, align in zip(widths, aligns)
    ]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


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
