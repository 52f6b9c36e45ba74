"""What `arnet evaluate` leaves and shows of a model: figures, classes, confusions, every video."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text
from etils import epath

from ar_net_jax.evaluation.per_class import ClassFigures, confusion_matrix, figures_by_class
from ar_net_jax.evaluation.per_video import figures_by_video
from ar_net_jax.evaluation.run import WorkdirEvaluation
from ar_net_jax.reporting.console import standard_output
from ar_net_jax.reporting.decided import output_names
from ar_net_jax.runtime.storage import write_json, write_output

# Of more classes, so many of the worst are shown on the terminal; the files have all.
_SHOWN_CLASSES = 10
_SHOWN_MISTAKES = 5


@dataclasses.dataclass(frozen=True)
class Details:
    """An evaluation class by class.

    Attributes:
        classes: figures of each class of the model.
        confusion: int [C, C], how many videos of each class (row) were taken for each (column);
            None where a video has several labels.
    """

    classes: list[ClassFigures]
    confusion: np.ndarray | None


def details_of(found: WorkdirEvaluation) -> Details:
    """The classes of an evaluation, under the first of its cost penalties."""
    method, predictions = found.config.build_method(), found.evaluation.predictions
    classes = figures_by_class(
        _names(found),
        predictions.scores,
        predictions.labels,
        found.evaluation.gflops,
        predictions.actions,
        method.choices.names,
    )
    single = bool((predictions.labels[:, 1:] < 0).all())
    confusion = confusion_matrix(predictions.scores, predictions.labels) if single else None
    return Details(classes, confusion)


def write_evaluation(path: epath.Path, found: WorkdirEvaluation, details: Details) -> list[str]:
    """Writes the figures as JSON, and beside them tables of classes, confusions and videos as CSV.

    Args:
        path: of the JSON; the tables' names are its own with `_classes.csv` and so on.
        found: of the model.
        details: of it.

    Returns:
        The names of the tables.

    Raises:
        UserError: a file cannot be written.
    """
    names = _names(found)
    by_class = [dataclasses.asdict(one) for one in details.classes]
    write_json(path, {**found.to_json(), "by_class": by_class})
    tables = {"classes": _class_rows(details.classes), "videos": _video_rows(found, names)}
    if details.confusion is not None:
        header = ["class / taken for", *names]
        taken_for = zip(names, details.confusion.tolist(), strict=True)
        tables["confusion"] = [header, *([name, *row] for name, row in taken_for)]
    written = {path.with_name(f"{path.stem}_{what}.csv"): rows for what, rows in tables.items()}
    for file, rows in written.items():
        write_output(file, _csv(rows))
    return [file.name for file in written]


def print_details(details: Details, console: rich.console.Console | None = None) -> None:
    """Prints the worst classes, and what is taken for what most often.

    Args:
        details: of an evaluation.
        console: where to; the terminal by default.
    """
    console = console or standard_output()
    met = [one for one in details.classes if one.average_precision is not None]
    worst = sorted(met, key=lambda one: one.average_precision or 0.0)[:_SHOWN_CLASSES]
    title = "Classes" if len(met) <= _SHOWN_CLASSES else f"The {len(worst)} worst of {len(met)}"
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(title)
    for column in ("Videos", "Average\nprecision (%)", "Top-1 (%)", "GFLOPs\nper video"):
        table.add_column(column, justify="right")
    for one in worst:
        figures = (one.average_precision, one.top1)
        cells = ("" if value is None else f"{value:.1f}" for value in figures)
        cost = "" if one.gflops is None else f"{one.gflops:.3g}"
        table.add_row(rich.text.Text(one.name), f"{one.videos}", *cells, cost)
    console.print(table)
    if details.confusion is not None:
        for line in _mistakes(details):
            console.print(rich.text.Text(line))


def print_usage(found: WorkdirEvaluation, console: rich.console.Console | None = None) -> None:
    """Prints the share of frames that each choice got, and that all got one where that is so."""
    usages = {row.method: row.figures.usage for row in found.rows if row.figures.usage}
    if not usages:
        return
    console = console or standard_output()
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Share of frames by choice")
    for name in next(iter(usages.values())):
        table.add_column(name, justify="right")
    for method, usage in usages.items():
        table.add_row(method, *(f"{share:.1%}" for share in usage.values()))
    console.print(table)
    for method, usage in usages.items():
        for choice, share in usage.items():
            if share == 1.0:
                console.print(f"{method}: every frame gets '{choice}', so nothing is adapted")


def _mistakes(details: Details) -> list[str]:
    """The most frequent confusions, a line each."""
    assert details.confusion is not None
    counts = details.confusion.copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_SHOWN_MISTAKES]
    names = [one.name for one in details.classes]
    return [
        f"{counts[i, j]} of {details.confusion[i].sum()} videos of {names[i]} are taken for "
        f"{names[j]}"
        for i, j in zip(*np.unravel_index(order, counts.shape))
        if counts[i, j]
    ]


def _names(found: WorkdirEvaluation) -> list[str]:
    return output_names(found.videos.class_names, found.evaluation.predictions.scores.shape[1])


def _class_rows(classes: Sequence[ClassFigures]) -> list[list[Any]]:
    choices = next((list(one.usage) for one in classes if one.usage), [])
    header = ["class", "videos", "average_precision_percent", "top1_percent", "gflops_per_video"]
    rows: list[list[Any]] = [[*header, *(f"share_of_frames {name}" for name in choices)]]
    for one in classes:
        usage = one.usage or {}
        figures = [one.videos, one.average_precision, one.top1, one.gflops]
        rows.append([one.name, *figures, *(usage.get(name) for name in choices)])
    return rows


def _video_rows(found: WorkdirEvaluation, names: list[str]) -> list[list[Any]]:
    method, rows = found.config.build_method(), []
    choices: list[str] = []
    for one in figures_by_video(method, found.evaluation, found.videos, names):
        choices = list(one.frames or {})
        figures = [one.predicted, one.score, int(one.right), one.rank, one.gflops]
        rows.append([one.name, "; ".join(one.labels), *figures, *(one.frames or {}).values()])
    header = ["video", "labels", "predicted", "score", "right", "rank_of_first_label", "gflops"]
    return [[*header, *(f"frames {name}" for name in choices)], *rows]


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
