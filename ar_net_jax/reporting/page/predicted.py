"""The page of predictions for a user's own videos."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

from etils import epath

from ar_net_jax.data.video import read_video
from ar_net_jax.errors import UserError
from ar_net_jax.inference.model import Model
from ar_net_jax.inference.predict import PredictedVideo
from ar_net_jax.methods import Method
from ar_net_jax.reporting.page.blocks import Cell, Column, Fold, Page, Section, Strips, Table
from ar_net_jax.reporting.page.comparison import CONVENTIONS, origin
from ar_net_jax.reporting.page.render import write_page
from ar_net_jax.reporting.page.strips import Strip, StripFrame, picture
from ar_net_jax.reporting.page.view import number
from ar_net_jax.runtime.versions import package_versions

# Frames of so many videos are shown; all are in the table.
_VIDEOS = 24
_SIDE = 112


def write_prediction_page(
    path: epath.PathLike, model: Model, videos: Sequence[PredictedVideo]
) -> None:
    """Writes the page of predictions.

    Args:
        path: of the file.
        model: what predicted.
        videos: in their order; the frames of the first are read once more.

    Raises:
        UserError: it cannot be written.
    """
    method = model.method
    whole = (video for video in videos if video.frames)
    strips = [_strip(video, method) for video in itertools.islice(whole, _VIDEOS)]
    shown = [strip for strip in strips if strip is not None]
    timelines = [_timeline(video) for video in videos if video.timeline][:_VIDEOS]
    config = json.dumps(model.config.to_dict(), indent=2)
    page = Page(
        f"{method.title}: {len(videos)} video{'' if len(videos) == 1 else 's'}",
        "What a trained model takes each video for, and what was decided about its frames.",
        [
            Section("Predictions", [_table(videos)]),
            *([Section("Decisions", [Strips(shown, len(videos))])] if shown else []),
            *([Section("Timelines", timelines)] if timelines else []),
            origin(package_versions(), config=config),
        ],
    )
    write_page(path, page)


def _table(videos: Sequence[PredictedVideo]) -> Table:
    """A row for each video: its best classes, its cost, and how many frames were left out."""
    places = max((min(len(video.classes), 3) for video in videos), default=1)
    heads = ["Best class", "Second", "Third"][:places]
    columns = [
        Column("Video", numeric=False),
        *(column for head in heads for column in (Column(head, numeric=False), Column("%"))),
        Column("GFLOPs", "what the video needed"),
        Column("Left out", "frames that add nothing to the prediction"),
    ]
    rows = []
    for video in videos:
        best = list(video.classes[:places])
        cells = [
            cell
            for one in best
            for cell in (
                Cell(one.name),
                Cell(f"{100 * one.probability:.1f}", one.probability, share=one.probability),
            )
        ]
        frames = [
            *video.frames,
            *(frame for window in video.windows for frame in window.frames),
        ]
        left_out = sum(frame.left_out for frame in frames)
        rows.append(
            [
                Cell(video.path),
                *cells,
                *[Cell("")] * (2 * (places - len(best))),
                number(video.gflops, ".4g"),
                Cell(f"{left_out} of {len(frames)}", left_out),
            ]
        )
    counted = dict.fromkeys(video.gflops_convention for video in videos)
    told = "; ".join(f"{name}: {CONVENTIONS[name]}" for name in counted)
    return Table(columns, rows, note=f"A click on a head sorts. GFLOPs as {told}.")


def _timeline(video: PredictedVideo) -> Fold:
    """Which class holds when, of a video that was seen in windows."""
    columns = [
        Column("Class", numeric=False),
        Column("from (s)"),
        Column("to (s)"),
        Column("%", "mean over the stretch"),
    ]
    rows = [
        [
            Cell(part.name),
            number(part.start, ".1f"),
            number(part.end, ".1f"),
            Cell(f"{100 * part.probability:.1f}", part.probability, share=part.probability),
        ]
        for part in video.timeline
    ]
    return Fold(video.path, [Table(columns, rows)])


def _strip(video: PredictedVideo, method: Method[Any, Any]) -> Strip | None:
    """A video's frames; None where its file is gone by now."""
    try:
        frames, _ = read_video(video.path, num_frames=len(video.frames), size=_SIDE)
    except UserError:
        return None
    sides = {name: method.side_of(i) for i, name in enumerate(method.choices.names)}
    best = video.classes[0]
    return Strip(
        video.path,
        (),
        best.name,
        best.probability,
        video.gflops,
        [
            StripFrame(
                picture(pixels),
                f"{frame.time:.2f} s",
                frame.description + (" (covered)" if frame.covered else ""),
                0 if frame.left_out else sides[frame.action] / method.image_size,
            )
            for pixels, frame in zip(frames, video.frames, strict=True)
        ],
    )
