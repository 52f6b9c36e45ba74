"""A classified video on the terminal: its classes, and what was decided about its frames."""

import rich.box
import rich.console
import rich.table
import rich.text

from ar_net_jax.inference.predict import PredictedVideo
from ar_net_jax.reporting.console import standard_output


def print_prediction(video: PredictedVideo, console: rich.console.Console | None = None) -> None:
    """Prints one video's classes and cost, and its decisions, or its timeline if it has windows.

    Args:
        video: from `predict_videos`.
        console: where to; the terminal by default.
    """
    console = console or standard_output()
    console.print(rich.text.Text(video.path, style="bold"))
    classes = rich.table.Table(box=None, pad_edge=False, show_header=False)
    for entry in video.classes:
        classes.add_row(f"{100 * entry.probability:5.1f}%", rich.text.Text(entry.name))
    console.print(classes)
    console.print(_timeline(video) if video.windows else _decisions(video))
    console.print(f"{video.gflops:.4g} GFLOPs ({video.gflops_convention})\n")


def _decisions(video: PredictedVideo) -> rich.table.Table:
    frames = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    frames.add_column("Time (s)", justify="right")
    frames.add_column("Decision")
    for frame in video.frames:
        covered = " (covered)" if frame.covered else ""
        style = "dim" if frame.left_out else None
        frames.add_row(f"{frame.time:.2f}", frame.description + covered, style=style)
    return frames


def _timeline(video: PredictedVideo) -> rich.table.Table:
    parts = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for title in ("From (s)", "To (s)", "Probability"):
        parts.add_column(title, justify="right")
    parts.add_column("Class")
    for part in video.timeline:
        parts.add_row(
            f"{part.start:.1f}",
            f"{part.end:.1f}",
            f"{100 * part.probability:.1f}%",
            rich.text.Text(part.name),
        )
    return parts
