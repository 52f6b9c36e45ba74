"""A classified video on the terminal: its classes, and what was decided about its frames."""

from typing import Any

import rich.box
import rich.console
import rich.table
import rich.text


def print_prediction(row: dict[str, Any], console: rich.console.Console | None = None) -> None:
    """Prints one video's classes, decisions and cost.

    Args:
        row: from `predict_videos`.
        console: where to; the terminal by default.
    """
    console = console or rich.console.Console()
    console.print(rich.text.Text(row["path"], style="bold"))
    classes = rich.table.Table(box=None, pad_edge=False, show_header=False)
    for entry in row["classes"]:
        classes.add_row(f"{100 * entry['probability']:5.1f}%", rich.text.Text(entry["name"]))
    console.print(classes)
    frames = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    frames.add_column("Time (s)", justify="right")
    frames.add_column("Action")
    for frame in row["frames"]:
        covered = " (covered)" if frame["covered"] else ""
        style = "dim" if frame["action"].startswith("skip") else None
        frames.add_row(f"{frame['time']:.2f}", frame["action"] + covered, style=style)
    console.print(frames)
    console.print(f"{row['gflops']:.4g} GFLOPs ({row['gflops_convention']})\n")
