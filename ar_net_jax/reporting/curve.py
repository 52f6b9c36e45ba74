"""curve.png: mAP against GFLOPs per video, or time, every model a labelled point."""

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.figure
import matplotlib.text
import matplotlib.ticker
import matplotlib.transforms
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ar_net_jax.config.model import Convention
from ar_net_jax.evaluation.comparison import Role

_INK, _GREY, _LINE = "#222222", "#8a8f98", "#3b6ea8"
_HIGHLIGHT, _OTHER = "#d1382c", "#5b6470"
_LOOKS: dict[Role, dict[str, Any]] = {
    "adaptive": {"marker": "*", "s": 330, "color": _HIGHLIGHT},
    "uniform": {"marker": "o", "s": 52, "color": _LINE},
    "other": {"marker": "D", "s": 46, "color": _OTHER},
}
# Offsets of a label from its point, in points, the preferred first.
_ANGLES = np.deg2rad([90, 270, 45, 135, 0, 180, 315, 225])
_DISTANCES = (11, 20, 32, 46)


@dataclass(frozen=True)
class Point:
    """A model on the curve.

    Attributes:
        label: its title.
        role: `uniform` points are joined by a line in order of cost, `adaptive` ones highlighted.
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
    _frame(axes, places, cost_label, chance)
    uniform = sorted((p.cost, p.mean_ap) for p in points if p.role == "uniform")
    if len(uniform) > 1:
        axes.plot(*zip(*uniform), color=_LINE, linewidth=1.6, alpha=0.55, zorder=2)
    texts = []
    for place, point in zip(places, points):
        look = _LOOKS[point.role]
        axes.scatter(*place, zorder=3, edgecolor="white", linewidth=0.8, **look)
        highlighted = point.role == "adaptive"
        texts.append(
            axes.annotate(
                point.label,
                place,
                xytext=(0, 0),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=11 if highlighted else 9,
                fontweight="bold" if highlighted else "normal",
                color=_INK if look["color"] == _OTHER else look["color"],
                zorder=4,
            )
        )
    _place_labels(axes, texts, places, uniform)
    figure.savefig(path)


def _frame(
    axes: Axes,
    points: np.ndarray,
    x_label: str,
    chance: float | None,
) -> None:
    """Limits, scale, axis labels and the chance line."""
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
    axes.set_ylabel("mAP (%)", color=_INK)
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
    texts: Sequence[matplotlib.text.Annotation],
    points: np.ndarray,
    line: Sequence[Sequence[float]],
) -> None:
    """Puts each label at the first spot near its point where it covers nothing.

    Labels are placed one by one, the most crowded points first; of spots that all cover
    something, the one that covers least is taken.
    """
    axes.figure.draw_without_rendering()
    renderer = axes.figure.canvas.get_renderer()
    per_point = axes.figure.dpi / 72
    pixels = axes.transData.transform(points)
    taken = [_around(x, y, 6 * per_point) for x, y in pixels]
    taken += [_around(x, y, 1.5 * per_point) for x, y in _along(axes, line)]
    taken += [
        child.get_window_extent(renderer)
        for child in axes.texts
        if child not in texts and child.get_text()
    ]
    inside = axes.get_window_extent(renderer)
    gaps = np.linalg.norm(pixels[:, None] - pixels[None], axis=-1)
    for i in np.argsort(np.sort(gaps, axis=1)[:, 1:3].sum(axis=1), kind="stable"):
        box = texts[i].get_window_extent(renderer)
        half = np.array([box.width, box.height]) / 2
        best = None
        for distance, angle in itertools.product(_DISTANCES, _ANGLES):
            direction = np.array([np.cos(angle), np.sin(angle)])
            centre = pixels[i] + direction * (distance * per_point + half * np.abs(direction))
            spot = matplotlib.transforms.Bbox([centre - half, centre + half])
            covered = sum(_overlap(spot, other) for other in taken)
            covered += box.width * box.height - _overlap(spot, inside)
            if best is None or covered < best[0] - 1e-6:
                best = (covered, distance, centre, spot)
        _, distance, centre, spot = best
        texts[i].set_position((centre - pixels[i]) / per_point)
        taken.append(spot)
        if distance > _DISTANCES[0]:
            nearest = np.clip(pixels[i], spot.min, spot.max)
            leader = axes.transData.inverted().transform([pixels[i], nearest])
            axes.plot(*leader.T, color=_GREY, linewidth=0.8, zorder=1)


def _around(x: float, y: float, radius: float) -> matplotlib.transforms.Bbox:
    return matplotlib.transforms.Bbox([[x - radius, y - radius], [x + radius, y + radius]])


def _along(axes: Axes, line: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """Pixel positions along a polyline, a few pixels apart."""
    if len(line) < 2:
        return []
    ends = axes.transData.transform(np.array(line))
    pieces = [np.linspace(start, stop, 60) for start, stop in itertools.pairwise(ends)]
    return list(np.concatenate(pieces))


def _overlap(a: matplotlib.transforms.Bbox, b: matplotlib.transforms.Bbox) -> float:
    """Area common to two boxes."""
    common = matplotlib.transforms.Bbox.intersection(a, b)
    return 0.0 if common is None else common.width * common.height
