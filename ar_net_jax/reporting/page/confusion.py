"""A confusion matrix, to point at."""

import itertools
from collections.abc import Sequence

import numpy as np
from bokeh.models import FactorRange, HoverTool
from bokeh.transform import linear_cmap

from ar_net_jax.reporting.page.blocks import Chart
from ar_net_jax.reporting.page.plot import empty_figure, no_formula

# Letters of a class's name at an axis.
_LONGEST = 18


def confusion_chart(names: Sequence[str], counts: np.ndarray) -> Chart:
    """A confusion matrix.

    Args:
        names: of K classes, each once.
        counts: int [K, K], videos by class (row) and prediction (column).
    """
    shown = _short(names)
    rows, columns = (axis.ravel() for axis in np.indices(counts.shape))
    totals = np.maximum(counts.sum(axis=1), 1)
    values = counts[rows, columns]
    data = {
        "truth": [shown[i] for i in rows.tolist()],
        "predicted": [shown[i] for i in columns.tolist()],
        "class": [names[i] for i in rows.tolist()],
        "taken": [names[i] for i in columns.tolist()],
        "count": values.tolist(),
        "total": totals[rows].tolist(),
        "share": (values / totals[rows]).tolist(),
        "text": [str(value) if value else "" for value in values.tolist()],
        "ink": ["#ffffff" if share > 0.55 else "#1c2430" for share in values / totals[rows]],
    }
    plot = empty_figure(
        x_range=FactorRange(factors=shown),
        y_range=FactorRange(factors=shown[::-1]),
        x_axis_location="above",
    )
    blues = _between("#f3f7fb", "#14508f")
    squares = plot.rect(
        "predicted",
        "truth",
        width=1,
        height=1,
        source=data,
        fill_color=linear_cmap("share", blues, 0, 1),
        line_color="white",
    )
    if len(names) <= 16:
        plot.text(
            "predicted",
            "truth",
            text="text",
            source=data,
            text_align="center",
            text_baseline="middle",
            text_font_size="12px",
            text_color="ink",
        )
    tips = [("class", "@class"), ("predicted", "@taken"), ("videos", "@count of @total")]
    plot.add_tools(HoverTool(tooltips=tips, renderers=[squares]))
    plot.xaxis.axis_label, plot.yaxis.axis_label = "predicted", "class"
    plot.xaxis.major_label_orientation = 0.9
    plot.grid.grid_line_color = None
    plot.axis.major_tick_line_color = None
    height = 26 * len(names) + 90 + 5 * max(len(name) for name in shown)
    note = "Rows are the videos' first classes. Point at a square to read it."
    return Chart(plot, height=max(height, 300), width=52 * len(names) + 220, note=note)


def _between(light: str, dark: str, steps: int = 64) -> list[str]:
    """Colors from one to another."""
    ends = [np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) for color in (light, dark)]
    mixed = (ends[0] + (ends[1] - ends[0]) * part for part in np.linspace(0, 1, steps))
    return ["#" + "".join(f"{round(value):02x}" for value in color) for color in mixed]


def _short(names: Sequence[str]) -> list[str]:
    """Names as they stand at an axis: of bounded length, and still each once."""
    found: list[str] = []
    for name in names:
        cut = no_formula(name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…")
        numbered = (f"{cut} {number}" for number in itertools.count(2))
        found.append(cut if cut not in found else next(n for n in numbered if n not in found))
    return found
