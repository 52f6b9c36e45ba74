"""What a page shows of one model: some videos, every class, what is taken for what.

It is kept as JSON where a page is made later, from several models.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ar_net_jax.data.source import VideoSource
from ar_net_jax.evaluation.evaluate import Evaluation
from ar_net_jax.evaluation.per_class import ClassFigures, confusion_matrix, figures_by_class
from ar_net_jax.experiment import Config
from ar_net_jax.reporting.decided import output_names, pick_videos
from ar_net_jax.reporting.page.blocks import Block, Cell, Chart, Column, Strips, Table
from ar_net_jax.reporting.page.confusion import confusion_chart
from ar_net_jax.reporting.page.strips import Strip, StripFrame, strip_of

_VIDEOS = 6

# Beyond, squares and names would be too small to read.
_CONFUSED = 24


@dataclass(frozen=True)
class ModelView:
    """What a page shows of a model on a split.

    Attributes:
        strips: some of its videos; none where nothing is decided about frames.
        num_videos: of the split.
        classes: figures of each that a video carries.
        confused: names of the classes in the confusion matrix, those with the most mistakes.
        counts: by class (row) and prediction (column) among those.
    """

    strips: tuple[Strip, ...]
    num_videos: int
    classes: tuple[ClassFigures, ...]
    confused: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ModelView":
        """The inverse of `to_json`."""
        strips = (
            Strip(**{**strip, "frames": [StripFrame(**frame) for frame in strip["frames"]]})
            for strip in values["strips"]
        )
        return cls(
            tuple(strips),
            values["num_videos"],
            tuple(ClassFigures(**one) for one in values["classes"]),
            tuple(values["confused"]),
            tuple(tuple(row) for row in values["counts"]),
        )


def view_model(
    config: Config, evaluation: Evaluation, split: VideoSource, videos: int = _VIDEOS
) -> ModelView:
    """What a page shows of a model.

    Args:
        config: of the model.
        evaluation: of it on the split.
        split: the videos, whose labels are the model's outputs.
        videos: how many to show.
    """
    method, predictions = config.build_method(), evaluation.predictions
    names = output_names(split.class_names, predictions.scores.shape[1])
    classes = figures_by_class(
        names,
        predictions.scores,
        predictions.labels,
        evaluation.gflops,
        predictions.actions,
        method.choices.names,
    )
    counts = confusion_matrix(predictions.scores, predictions.labels)
    met = counts.sum(axis=0) + counts.sum(axis=1)
    mistakes = np.where(met > 0, met - 2 * counts.diagonal(), -1)
    kept = np.sort(np.argsort(-mistakes, kind="stable")[: min(_CONFUSED, np.sum(met > 0))])
    decided = len(method.choices) > 1 and videos > 0
    return ModelView(
        strips=tuple(
            strip_of(video)
            for video in (pick_videos(config, evaluation, split, videos) if decided else ())
        ),
        num_videos=len(evaluation.gflops),
        classes=tuple(one for one in classes if one.videos),
        confused=tuple(names[k] for k in kept),
        counts=tuple(tuple(row) for row in counts[np.ix_(kept, kept)].tolist()),
    )


def strips_block(view: ModelView) -> list[Block]:
    """The videos; nothing where there are none."""
    return [Strips(view.strips, view.num_videos)] if view.strips else []


def classes_table(view: ModelView, convention: str, most: int = 1000) -> Table:
    """A row for each class: how well it is known, what it costs, which choices it gets.

    Args:
        view: of the model.
        convention: in which its GFLOPs are counted.
        most: rows; of more classes, those with the most videos are shown.
    """
    by_videos = sorted(view.classes, key=lambda one: -one.videos)
    shown = view.classes if len(view.classes) <= most else by_videos[:most]
    choices = next((list(one.usage) for one in view.classes if one.usage), [])
    columns = [
        Column("Class", numeric=False),
        Column("Videos", "of the split that carry the class"),
        Column("AP (%)", "average precision: of a ranking of all videos by the class's score"),
        Column("Top-1 (%)", "share of the class's videos that are taken for it"),
        Column("GFLOPs/video", f"mean over the class's videos, counted as {convention}"),
        *(Column(name, "share of the frames of the class's videos") for name in choices),
    ]
    rows = [
        [
            Cell(one.name),
            number(one.videos, "d"),
            number(one.average_precision, ".1f"),
            number(one.top1, ".1f"),
            number(one.gflops, ".3g"),
            *(_share((one.usage or {}).get(name)) for name in choices),
        ]
        for one in shown
    ]
    note = "Choices: share of the frames of the class's videos." if choices else ""
    if len(shown) < len(view.classes):
        note += f" The {most} classes with the most videos, of {len(view.classes)}."
    return Table(columns, rows, note=note.strip())


def confusion_block(view: ModelView) -> Chart | None:
    """The confusion matrix; None where nothing could be confused."""
    if len(view.confused) < 2:
        return None
    chart = confusion_chart(view.confused, np.asarray(view.counts))
    left = len(view.classes) - len(view.confused)
    if left > 0:
        told = f" The {len(view.confused)} classes with the most mistakes; {left} are left out."
        chart = dataclasses.replace(chart, note=chart.note + told)
    return chart


def number(value: float | None, form: str) -> Cell:
    """A cell with a number, or an empty one."""
    return Cell("") if value is None else Cell(format(value, form), float(value))


def usage_table(titles: Sequence[str], usages: Sequence[dict[str, float] | None]) -> Table | None:
    """Share of frames by choice, a row for each method that has several; None where none has.

    Args:
        titles: of the methods.
        usages: of each, in their order.
    """
    names = list(dict.fromkeys(name for usage in usages for name in usage or ()))
    if not names:
        return None
    rows = [
        [Cell(title), *(_share(usage.get(name)) for name in names)]
        for title, usage in zip(titles, usages, strict=True)
        if usage
    ]
    columns = [Column("Method", numeric=False), *(Column(name) for name in names)]
    return Table(columns, rows, note="Share of frames on which each choice was made.")


def _share(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(f"{100 * value:.1f}%", value, share=value)
