"""The demo's page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ar_net_jax.data.source import VideoSource
from ar_net_jax.demo.decisions import ChoicesByKind
from ar_net_jax.evaluation.comparison import Row
from ar_net_jax.evaluation.evaluate import Evaluation
from ar_net_jax.experiment import Config
from ar_net_jax.reporting.page.blocks import Block, Cell, Column, Page, Section, Table, Tiles
from ar_net_jax.reporting.page.comparison import origin, results_curve, results_table
from ar_net_jax.reporting.page.evaluated import model_sections
from ar_net_jax.reporting.page.render import write_page
from ar_net_jax.reporting.page.view import usage_table, view_model
from ar_net_jax.reporting.tables import plain_json


def write_demo_page(
    path: Path,
    rows: Sequence[Row],
    context: Mapping[str, Any],
    *,
    config: Config,
    shown: Evaluation,
    test: VideoSource,
    workdir: Path,
    decisions: ChoicesByKind,
    remark: str = "",
) -> None:
    """Writes the demo's page.

    Args:
        path: of the file.
        rows: of the comparison.
        context: as of `write_report`, with `chance`, `versions` and `durations`.
        config: of the model that is shown in detail.
        shown: its evaluation.
        test: the split.
        workdir: of its training.
        decisions: what it chose for each kind of frame.
        remark: set off at the top.

    Raises:
        UserError: it cannot be written.
    """
    chance, main = context["chance"], shown.figures
    usage = usage_table([row.method for row in rows], [row.figures.usage for row in rows])
    view = view_model(config, shown, test)
    results: list[Block] = [results_table(rows, chance), results_curve(rows, chance)]
    if usage:
        results.append(usage)
    page = Page(
        "AR-Net on videos drawn by program",
        "A small data set was drawn and written as H.264 files; AR-Net and its baselines were "
        f"trained on it, and scored on {len(test)} videos that no choice has seen.",
        [
            Section("Results", results),
            *model_sections(view, main.gflops_convention, workdir),
            Section(
                "Kinds of frames",
                [_kinds_table(decisions)],
                "The program that drew the videos knows what each frame shows.",
            ),
            origin(
                context["versions"],
                [_durations_table(context["durations"])],
                config=json.dumps(plain_json(context["config"]), indent=2),
            ),
        ],
        remark=remark,
        tiles=_tiles(rows, shown, chance),
    )
    write_page(path, page)


def _tiles(rows: Sequence[Row], shown: Evaluation, chance: Mapping[str, float]) -> Tiles:
    main = shown.figures
    whole = next(
        row.figures
        for row in rows
        if row.role == "reference" and row.figures.num_frames == main.num_frames
    )
    share = main.gflops_per_video / whole.gflops_per_video
    return Tiles(
        [
            (f"{main.mAP:.1f}%", f"mAP of {rows[0].method}, chance {chance['mAP']:.1f}%"),
            (f"{whole.mAP:.1f}%", f"mAP of Uniform with all {whole.num_frames} frames"),
            (f"{100 * share:.0f}%", "of that one's GFLOPs"),
            (f"{main.num_videos}", "test videos"),
        ]
    )


def _kinds_table(decisions: ChoicesByKind) -> Table:
    names = list(next(iter(decisions.usage_by_kind.values())))
    columns = [Column("Frame shows", numeric=False), Column("Frames"), *map(Column, names)]
    rows = []
    for kind, usage in decisions.usage_by_kind.items():
        count = decisions.frames_by_kind[kind]
        shares = [
            Cell(f"{100 * usage[name]:.1f}%", usage[name], share=usage[name]) for name in names
        ]
        rows.append([Cell(kind), Cell(f"{count:,}", count), *shares])
    return Table(columns, rows, note="Share of the frames of a kind on which each choice was made.")


def _durations_table(durations: Mapping[str, float]) -> Table:
    rows = [[Cell(name), Cell(f"{value:.0f}", value)] for name, value in durations.items()]
    note = "Of the last call; trainings run side by side."
    return Table([Column("Part", numeric=False), Column("Seconds")], rows, note=note)
