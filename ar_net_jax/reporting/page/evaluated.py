"""The page of an evaluation, from what was found of a work directory's model."""

import json
from collections.abc import Sequence

from etils import epath

from ar_net_jax.evaluation.metrics import chance_level
from ar_net_jax.evaluation.run import WorkdirEvaluation
from ar_net_jax.reporting.page.blocks import Block, Page, Section, Tiles
from ar_net_jax.reporting.page.comparison import origin, results_curve, results_table
from ar_net_jax.reporting.page.history import history_charts
from ar_net_jax.reporting.page.render import write_page
from ar_net_jax.reporting.page.view import (
    ModelView,
    classes_table,
    confusion_block,
    strips_block,
    usage_table,
    view_model,
)
from ar_net_jax.runtime.versions import package_versions


def model_sections(
    view: ModelView, convention: str, workdir: epath.PathLike | None
) -> list[Section]:
    """Decisions, classes, confusions and training of one model, each where it is known.

    Args:
        view: of the model.
        convention: in which its GFLOPs are counted.
        workdir: of its training; None where that is of no interest.
    """
    charts = None if workdir is None else history_charts(workdir)
    confusion = confusion_block(view)
    parts: list[tuple[str, Sequence[Block], str]] = [
        (
            "Decisions",
            strips_block(view),
            "Videos spread evenly over what they cost, with what was decided about each frame.",
        ),
        ("Classes", [classes_table(view, convention)], ""),
        ("Confusions", [confusion] if confusion else [], ""),
        ("Training", [charts] if charts else [], ""),
    ]
    return [Section(title, blocks, text) for title, blocks, text in parts if blocks]


def write_evaluation_page(path: epath.PathLike, found: WorkdirEvaluation) -> None:
    """Writes the page of an evaluation.

    Args:
        path: of the file.
        found: of the model; the first of its cost penalties is shown in detail.

    Raises:
        UserError: it cannot be written.
    """
    write_page(path, evaluation_page(found))


def evaluation_page(found: WorkdirEvaluation) -> Page:
    """The page of an evaluation; argument as of `write_evaluation_page`."""
    rows, config = found.rows, found.config
    main, labels = rows[0].figures, found.evaluation.predictions.labels
    chance = chance_level(labels, config.model.num_classes or len(found.videos.class_names))
    usage = usage_table([row.method for row in rows], [row.figures.usage for row in rows])
    curve = [results_curve(rows, chance)] if len(rows) > 1 else []
    view = view_model(config, found.evaluation, found.videos)
    tiles = [
        (f"{main.mAP:.1f}%", f"mAP, chance {chance['mAP']:.1f}%"),
        (f"{main.top1:.1f}%", f"top-1, chance {chance['top1']:.1f}%"),
        (f"{main.gflops_per_video:.3g}", f"GFLOPs per video, {main.num_frames} frames"),
        (f"{main.num_videos}", f"videos of split {found.split}"),
    ]
    return Page(
        f"{rows[0].method} on {config.data.name}, {found.split}",
        f"What a trained model scores on the split '{found.split}', and what it computes for that.",
        [
            Section("Results", [results_table(rows, chance), *curve, *([usage] if usage else [])]),
            *model_sections(view, main.gflops_convention, found.path.parent),
            origin(package_versions(), config=json.dumps(config.to_dict(), indent=2)),
        ],
        tiles=Tiles(tiles),
    )
