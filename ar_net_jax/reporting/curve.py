"""curve.png: mAP against GFLOPs per video, or time, every model a labelled point."""

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.figure
import matplotlib.ticker
import numpy as np
from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from ar_net_jax.config.model import Convention
from ar_net_jax.evaluation.comparison import Role

_INK, _GREY, _LINE = "#222222", "#8a8f98", "#3b6ea8"
_HIGHLIGHT, _OTHER = "#d1382c", "#5b6470"
_LOOKS: dict[Role, dict[str, Any]] = {
    "adaptive": {"marker": "*", "s": 330, "color": _HIGHLIGHT},
    "reference": {"marker": "o", "s": 52, "color": _LINE},
    "other": {"marker": "D", "s": 46, "color": _OTHER},
}
# Steps after which labels stand still, and points from which on a line leads to the marker.
_STEPS, _FAR = 300, 15


@dataclass(frozen=True)
class Point:
    """A model on the curve.

    Attributes:
        label: its title.
        role: `reference` points are joined by a line in order of cost, `adaptive` ones highlighted.
        cost: above 0.
        mean_ap: mAP in percent.
    """

    label: str
    role: Role
    cost: float
    mean_ap: float


def gflops_label(conventions: Iterable[Convention]) -> str:
    """The label of an axis of GFLOPs per video, counted in these conventions."""
    return f"GFLOPs per video ({', '.join(dict.fromkeys(conventions))}; log scale)"


def plot_curve(
    path: str | os.PathLike[str],
    points: Sequence[Point],
    cost_label: str,
    chance: float | None = None,
) -> None:
    """Draws the accuracy-cost curve (Figure 3 of the paper).

    Args:
        path: of the PNG.
        points: the models.
        cost_label: of the axis.
        chance: mAP in percent of guessing, drawn as a line.
    """
    figure = matplotlib.figure.Figure(figsize=(8, 5.2), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = np.array([(point.cost, point.mean_ap) for point in points], float)
    frame_axes(axes, places, cost_label, chance)
    uniform = sorted((p.cost, p.mean_ap) for p in points if p.role == "reference")
    if len(uniform) > 1:
        axes.plot(*zip(*uniform), color=_LINE, linewidth=1.6, alpha=0.55, zorder=2)
    texts = []
    for place, point in zip(places, points):
        look = _LOOKS[point.role]
        axes.scatter(*place, zorder=3, edgecolor="white", linewidth=0.8, **look)
        highlighted = point.role == "adaptive"
        texts.append(
            axes.text(
                place[0],
                place[1],
                point.label,
                ha="center",
                va="center",
                fontsize=11 if highlighted else 9,
                fontweight="bold" if highlighted else "normal",
                color=_INK if look["color"] == _OTHER else look["color"],
                zorder=4,
            )
        )
    _place_labels(axes, texts, points, uniform)
    figure.savefig(path)


def frame_axes(
    axes: Axes,
    points: np.ndarray,
    x_label: str,
    chance: float | None,
    y_label: str = "mAP (%)",
) -> None:
    """Limits, scale, axis labels and the chance line of an accuracy-cost curve.

    Args:
        axes: to be framed.
        points: [N, 2], costs and scores that are to lie within.
        x_label: of the axis of costs, which is logarithmic.
        chance: score of guessing, drawn as a line.
        y_label: of the axis of scores.
    """
    (low_x, low_y), (high_x, high_y) = points.min(axis=0), points.max(axis=0)
    if chance is not None:
        low_y = min(low_y, chance)
    margin = max(0.1 * (high_y - low_y), 1.0)
    axes.set_ylim(low_y - margin, high_y + margin)
    axes.set_xscale("log")
    room = max((high_x / low_x) ** 0.1, 1.15)
    axes.set_xlim(low_x / room, high_x * room)
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.set_xlabel(x_label, color=_INK)
    axes.set_ylabel(y_label, color=_INK)
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.tick_params(colors=_OTHER, which="both")
    if chance is not None:
        axes.axhline(chance, color=_GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"chance {chance:.1f}",
            (1, chance),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=9,
            color=_GREY,
        )


def _place_labels(
    axes: Axes,
    labels: Sequence[Text],
    points: Sequence[Point],
    line: Sequence[Sequence[float]],
) -> None:
    """Moves labels off the markers, the line through them and each other, and connects them."""
    axes.figure.canvas.draw()
    to_data, per_point = axes.transData.inverted(), axes.figure.dpi / 72
    places = np.array([(point.cost, point.mean_ap) for point in points])
    pixels = axes.transData.transform(places)
    radii = 0.5 * per_point * np.sqrt([_LOOKS[point.role]["s"] for point in points])
    taken = [Bbox.from_extents(*(p - r), *(p + r)) for p, r in zip(pixels, radii)]
    taken += [text.get_window_extent() for text in axes.texts if text not in labels]
    for label, (x, y), radius in zip(labels, pixels, radii):
        # Where nothing is in the way, a label stands above its marker.
        above = y + radius + 0.8 * per_point * float(label.get_fontsize())
        label.set_position(tuple(to_data.transform((x, above))))
    adjust_text(
        labels,
        *_along(axes, line).T,
        target_x=places[:, 0],
        target_y=places[:, 1],
        objects=[box.transformed(to_data) for box in taken],
        ax=axes,
        avoid_self=False,
        expand=(1.05, 1.3),
        force_explode=(0.0, 0.0),
        force_static=(0.2, 0.4),
        force_text=(0.2, 0.5),
        force_pull=(0.0, 0.0),
        # Steps, not seconds: so the picture does not depend on how busy the machine is.
        iter_lim=_STEPS,
        min_arrow_len=_FAR * per_point,
        arrowprops={"arrowstyle": "-", "color": _GREY, "linewidth": 0.8, "zorder": 1},
    )


def _along(axes: Axes, line: Sequence[Sequence[float]]) -> np.ndarray:
    """Points [N, 2] along a polyline in the axes' units, evenly on the picture."""
    if len(line) < 2:
        return np.zeros((0, 2))
    ends = axes.transData.transform(np.array(line))
    pieces = [np.linspace(start, stop, 20) for start, stop in itertools.pairwise(ends)]
    return axes.transData.inverted().transform(np.concatenate(pieces))
