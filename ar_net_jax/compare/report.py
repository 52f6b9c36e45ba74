"""What a study leaves behind: study.json, tables in Markdown, CSV and LaTeX, curves, strips."""

import csv
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from ar_net_jax.compare.judge import STRIPS
from ar_net_jax.compare.page import write_study_page
from ar_net_jax.compare.published import POINTS, published_curve
from ar_net_jax.compare.results import StudyResult
from ar_net_jax.compare.tables import flat_rows, study_tables
from ar_net_jax.reporting.curve import gflops_label
from ar_net_jax.reporting.lines import Line, plot_lines
from ar_net_jax.reporting.tables import aligned_table, plain_json
from ar_net_jax.runtime.storage import write_whole

_LABELS = {"mAP": "mAP (%)", "top1": "top-1 accuracy (%)"}


def write_study(folder: Path, result: StudyResult, runs: Mapping[str, Path]) -> None:
    """Writes a study's report.

    Args:
        folder: gets `report.html`, `study.json`, `tables.md`, `tables.csv`, `tables.tex`,
            `curve_gflops.png`, `curve_ms.png` where times were measured, and `decisions/ROW.png`.
        result: of the study.
        runs: folder of one run of every row, with the strips of what it decided.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "tables.md", markdown(result))
    write_whole(folder / "tables.csv", as_csv(result))
    write_whole(folder / "tables.tex", latex(result))
    _plot(folder, result)
    decisions = folder / "decisions"
    shutil.rmtree(decisions, ignore_errors=True)
    decisions.mkdir()
    for row in result.rows:
        strips = runs[row.name] / STRIPS
        if strips.exists():
            shutil.copyfile(strips, decisions / f"{row.name}.png")
    write_study_page(folder / "report.html", result, runs)
    # Last: it tells that the rest is there.
    write_whole(folder / "study.json", json.dumps(plain_json(result.to_json()), indent=2) + "\n")


def markdown(result: StudyResult) -> str:
    """The study's tables, with what they mean and what was left out."""
    parts = [f"# {result.study}: {result.summary}"]
    videos = f"Data set `{result.data}`, split `{result.split}`. Chance: {result.chance:.1f}%."
    parts.append(f"{videos} Times on {result.device}.")
    for table in study_tables(result):
        parts += [f"## {table.title}", aligned_table(table.columns, table.cells), table.note]
    if result.failures:
        told = "\n".join(f"- {name}: {reason}" for name, reason in result.failures.items())
        parts += ["## Left out, or failed", told]
    return "\n\n".join(filter(None, parts)) + "\n"


def latex(result: StudyResult) -> str:
    """The study's tables for the package `booktabs`, one after the other."""
    parts = []
    for table in study_tables(result):
        rows = [table.columns, *table.cells]
        head, *body = (" & ".join(_escaped(cell) for cell in row) + r" \\" for row in rows)
        alignment = "l" + "r" * (len(table.columns) - 1)
        lines = [
            f"% {table.title}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def as_csv(result: StudyResult) -> str:
    """All figures of every row, unrounded, one line a row."""
    rows = flat_rows(result)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _escaped(cell: str) -> str:
    for plain, written in (
        ("\\", r"\textbackslash{}"),
        ("%", r"\%"),
        ("_", r"\_"),
        ("&", r"\&"),
        ("±", r"$\pm$"),
    ):
        cell = cell.replace(plain, written)
    return cell


def _plot(folder: Path, result: StudyResult) -> None:
    """The two curves; published points where they are of the same data set."""
    theirs = {point.data for point in POINTS}
    by_cost, by_time = [], []
    for row in result.rows:
        published = tuple(
            (point.gflops, point.score)
            for point in (
                published_curve(_published_name(result, row.name), result.data)
                if result.data in theirs
                else ()
            )
        )
        points = tuple((point.gflops, point.score) for point in row.curve)
        by_cost.append(Line(row.method, row.role, points, published))
        timed = [(p.milliseconds, p.score) for p in row.curve if p.milliseconds is not None]
        by_time.append(Line(row.method, row.role, tuple(timed)))
    score = _LABELS[result.metric]
    label = gflops_label(row.gflops_convention for row in result.rows)
    plot_lines(folder / "curve_gflops.png", by_cost, label, score, result.chance)
    if any(line.points for line in by_time):
        label = "milliseconds per video (batch 1, median; log scale)"
        plot_lines(folder / "curve_ms.png", by_time, label, score, result.chance)


def _published_name(result: StudyResult, name: str) -> str:
    point = next(row.published for row in result.rows if row.name == name)
    return "" if point is None else point.method
