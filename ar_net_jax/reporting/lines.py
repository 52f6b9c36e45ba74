"""Accuracy against cost with a line for every method, and published points beside them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import matplotlib.figure
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ar_net_jax.evaluation.comparison import Role
from ar_net_jax.reporting.curve import frame_axes

_MARKERS = "osD^vP*X<>hp"


@dataclass(frozen=True)
class Line:
    """A method on the curve.

    Attributes:
        title: of the method.
        role: the `reference` is drawn thick.
        points: costs, above 0, and scores in percent.
        published: likewise, drawn hollow.
    """

    title: str
    role: Role
    points: tuple[tuple[float, float], ...]
    published: tuple[tuple[float, float], ...] = ()


def plot_lines(
    path: str | os.PathLike[str],
    lines: Sequence[Line],
    cost_label: str,
    score_label: str,
    chance: float | None = None,
) -> None:
    """Draws accuracy against cost, a line for every method.

    Args:
        path: of the PNG.
        lines: the methods, with at least one point in all.
        cost_label: of the axis.
        score_label: of the axis.
        chance: score of guessing, drawn as a line.
    """
    figure = matplotlib.figure.Figure(figsize=(9.5, 5.6), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    everything = [point for line in lines for point in (*line.points, *line.published)]
    frame_axes(axes, np.array(everything, float), cost_label, chance, score_label)
    colors = matplotlib.colormaps["tab20"].colors  # type: ignore[attr-defined]
    for number, line in enumerate(lines):
        color = "#222222" if line.role == "reference" else colors[number % len(colors)]
        marker = _MARKERS[number % len(_MARKERS)]
        wide = line.role == "reference"
        if line.points:
            axes.plot(
                *zip(*sorted(line.points)),
                color=color,
                marker=marker,
                markersize=6,
                linewidth=2.4 if wide else 1.4,
                label=line.title,
                zorder=4 if line.role == "adaptive" else 3,
            )
        if line.published:
            axes.plot(
                *zip(*sorted(line.published)),
                color=color,
                marker=marker,
                markerfacecolor="none",
                linewidth=0.8,
                linestyle=(0, (2, 3)),
                label=f"{line.title}, published",
                zorder=2,
            )
    figure.legend(loc="outside right upper", fontsize=8.5, frameon=False)
    figure.savefig(path)
