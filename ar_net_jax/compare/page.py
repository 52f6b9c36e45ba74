"""A study's page."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from ar_net_jax.compare.judge import VIEW
from ar_net_jax.compare.published import published_curve
from ar_net_jax.compare.results import ResultRow, StudyResult
from ar_net_jax.compare.tables import USAGE, study_tables
from ar_net_jax.compare.tables import Table as TextTable
from ar_net_jax.reporting.page.blocks import (
    Block,
    Cell,
    Chart,
    Column,
    Fold,
    Listing,
    Page,
    Section,
    Table,
    Tiles,
)
from ar_net_jax.reporting.page.comparison import origin
from ar_net_jax.reporting.page.cost_curve import CurveLine, CurvePoint, colors_of, cost_curve
from ar_net_jax.reporting.page.history import history_charts
from ar_net_jax.reporting.page.render import write_page
from ar_net_jax.reporting.page.view import (
    ModelView,
    classes_table,
    confusion_block,
    strips_block,
    usage_table,
)

# Of a method, where all methods of a study stand on one page.
_CLASSES = 40
_LABELS = {"mAP": "mAP (%)", "top1": "top-1 accuracy (%)"}
_NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*")


def write_study_page(path: Path, result: StudyResult, runs: Mapping[str, Path]) -> None:
    """Writes a study's page.

    Args:
        path: of the file.
        result: of the study.
        runs: folder of one run of every row.

    Raises:
        UserError: it cannot be written.
    """
    views = {
        row.name: ModelView.from_json(json.loads((runs[row.name] / VIEW).read_text()))
        for row in result.rows
        if (runs[row.name] / VIEW).exists()
    }
    colors = colors_of([row.role for row in result.rows])
    by_method = dict(zip((row.method for row in result.rows), colors, strict=True))
    scores, *others = study_tables(result)
    sections = [
        Section(scores.title, [_table(scores, by_method), _curves(result, colors)]),
        *(Section(t.title, [_table(t, by_method)]) for t in others if t.title != USAGE),
    ]
    usage = usage_table([row.method for row in result.rows], [row.usage for row in result.rows])
    if usage:
        sections.append(Section(USAGE, [usage]))
    if views:
        sections.append(Section("Average precision by class", [_by_class(result, views)]))
    folds = [_method(row, views.get(row.name), runs[row.name]) for row in result.rows]
    sections.append(Section("Methods", folds, "Each method's decisions, classes and training."))
    if result.failures:
        sections.append(Section("Left out, or failed", [_failures(result)]))
    durations = [[Cell(name), Cell(f"{s:.0f}", s)] for name, s in result.durations.items()]
    timed = Table([Column("Part", numeric=False), Column("Seconds")], durations)
    sections.append(origin(result.versions, [timed]))
    page = Page(
        f"{result.study}: {result.summary}",
        f"Data set {result.data}, split {result.split}. Times on {result.device}.",
        sections,
        tiles=_tiles(result),
    )
    write_page(path, page)


def _table(table: TextTable, colors: Mapping[str, str]) -> Table:
    """A table of text with the methods' colors; figures are sorted as such."""
    rows = [
        [
            Cell(text, color=colors.get(text, "")) if i == 0 else Cell(text, _value(text))
            for i, text in enumerate(row)
        ]
        for row in table.cells
    ]
    columns = [Column(head, numeric=i > 0) for i, head in enumerate(table.columns)]
    return Table(columns, rows, note=table.note.replace("`", ""))


def _value(text: str) -> float | None:
    """The first number of a cell such as "73.2 ± 0.4" or "61.0 (k=4)"."""
    found = _NUMBER.search(text)
    return float(found.group().replace(",", "")) if found else None


def _curves(result: StudyResult, colors: list[str]) -> Chart:
    by_cost, by_time = [], []
    for row, color in zip(result.rows, colors):
        points = [CurvePoint(_told(row, p.label), p.gflops, p.score) for p in row.curve]
        by_cost.append(CurveLine(row.method, row.role, color, points))
        timed = [
            CurvePoint(_told(row, p.label), p.milliseconds, p.score)
            for p in row.curve
            if p.milliseconds is not None
        ]
        by_time.append(CurveLine(row.method, row.role, color, timed))
        theirs = published_curve(row.published.method if row.published else "", result.data)
        told = f"{row.method}, published"
        published = [CurvePoint(told, point.gflops, point.score) for point in theirs]
        by_cost.append(CurveLine(row.method, row.role, color, published, published=True))
    lines = {"GFLOPs per video": by_cost}
    if any(line.points for line in by_time):
        lines["milliseconds per video"] = by_time
    return cost_curve(lines, _LABELS[result.metric], result.chance)


def _told(row: ResultRow, label: str) -> str:
    return f"{row.method}, {label}" if label else row.method


def _by_class(result: StudyResult, views: Mapping[str, ModelView]) -> Table:
    """A row for each class, a column for each method."""
    rows = [row for row in result.rows if row.name in views]
    found = [{one.name: one for one in views[row.name].classes} for row in rows]
    columns = [
        Column("Class", numeric=False),
        Column("Videos"),
        *(Column(row.method) for row in rows),
    ]
    cells = []
    for name, one in found[0].items():
        scores = [classes[name].average_precision for classes in found if name in classes]
        shaded = [
            Cell("") if score is None else Cell(f"{score:.1f}", score, share=(score / 100) ** 2)
            for score in scores
        ]
        cells.append([Cell(name), Cell(str(one.videos), one.videos), *shaded])
    return Table(columns, cells, note="In percent, of the first seed's model.")


def _method(row: ResultRow, view: ModelView | None, run: Path) -> Fold:
    blocks: list[Block] = []
    if view is not None:
        confusion = confusion_block(view)
        blocks += strips_block(view)
        blocks.append(classes_table(view, row.gflops_convention, _CLASSES))
        blocks += [confusion] if confusion else []
    charts = history_charts(run)
    blocks += [charts] if charts else []
    config = run / "config.json"
    if config.exists():
        blocks.append(Listing("Config", config.read_text()))
    return Fold(row.method, blocks)


def _failures(result: StudyResult) -> Table:
    rows = [[Cell(name), Cell(reason)] for name, reason in result.failures.items()]
    return Table([Column("Row", numeric=False), Column("Reason", numeric=False)], rows)


def _tiles(result: StudyResult) -> Tiles:
    best = max(result.rows, key=lambda row: row.score.mean)
    seeds = max(len(row.seeds) for row in result.rows)
    return Tiles(
        [
            (f"{len(result.rows)}", f"methods, {seeds} seed{'' if seeds == 1 else 's'} each"),
            (f"{best.score.mean:.1f}%", f"best {_LABELS[result.metric]}: {best.method}"),
            (f"{result.chance:.1f}%", "chance"),
        ]
    )
