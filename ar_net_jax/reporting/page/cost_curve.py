"""Accuracy against cost, to point at."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bokeh.models import CustomJSTicker, CustomJSTickFormatter, HoverTool, TabPanel, Tabs
from bokeh.models.annotations import Label, Span
from bokeh.models.renderers import DataRenderer
from bokeh.plotting import figure

from ar_net_jax.evaluation.comparison import Role
from ar_net_jax.reporting.page.blocks import Chart, Key
from ar_net_jax.reporting.page.plot import PALETTE, SOFT, empty_figure, named

ADAPTIVE, REFERENCE = "#d1382c", "#1c2430"
# Places of numbers on an axis of costs: powers of ten, as Bokeh has them, would leave most of such
# axes without any.
_LOG_TICKS = """
const {start, end} = cb_data
const low = Math.floor(Math.log10(start)), high = Math.ceil(Math.log10(end))
for (const digits of [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]]) {
  const ticks = []
  for (let power = low; power <= high; power++)
    for (const digit of digits) ticks.push(Number(`${digit}e${power}`))
  const seen = ticks.filter(tick => start <= tick && tick <= end)
  if (seen.length > 3) return seen
}
const step = (end - start) / 4
return [0, 1, 2, 3].map(i => Number((start + (i + 0.5) * step).toPrecision(3)))
"""
_MARKERS: dict[Role, str] = {"adaptive": "star", "reference": "circle", "other": "diamond"}
_SIZES: dict[Role, int] = {"adaptive": 20, "reference": 10, "other": 14}


@dataclass(frozen=True)
class CurvePoint:
    """A model in one setting.

    Attributes:
        label: what the pointer tells.
        cost: above 0.
        score: in percent.
    """

    label: str
    cost: float
    score: float


@dataclass(frozen=True)
class CurveLine:
    """A method on the curve.

    Attributes:
        title: of the method.
        role: what it is in the comparison.
        color: as CSS has it, see `colors_of`.
        points: its settings.
        published: whether the figures are others', which are drawn hollow.
    """

    title: str
    role: Role
    color: str
    points: Sequence[CurvePoint]
    published: bool = False


def colors_of(roles: Sequence[Role]) -> list[str]:
    """A color for each of several methods: the reference is dark, one that adapts alone is red."""
    several = list(roles).count("adaptive") > 1
    others = itertools.cycle(PALETTE)
    fixed = {"reference": REFERENCE} if several else {"reference": REFERENCE, "adaptive": ADAPTIVE}
    return [fixed.get(role) or next(others) for role in roles]


def cost_curve(
    lines_by_cost: Mapping[str, Sequence[CurveLine]], score_label: str, chance: float | None
) -> Chart:
    """Accuracy against cost, a tab for each way to count cost.

    Args:
        lines_by_cost: the methods, by the label of the axis of costs.
        score_label: of the other axis.
        chance: score of guessing in percent, drawn as a line.
    """
    panels = [
        TabPanel(child=_cost_figure(lines, label, score_label, chance), title=label)
        for label, lines in lines_by_cost.items()
    ]
    lines = next(iter(lines_by_cost.values()))
    keys = {line.title: Key(line.title, line.color, named(line.title)) for line in lines}
    model = Tabs(tabs=panels, sizing_mode="stretch_both")
    return Chart(
        model if len(panels) > 1 else panels[0].child,
        height=460,
        key=list(keys.values()),
        note="Point at a mark to read it. A click on a name hides or shows it.",
    )


def _cost_figure(
    lines: Sequence[CurveLine], cost_label: str, score_label: str, chance: float | None
) -> figure:
    plot = empty_figure(x_axis_type="log")
    plot.xaxis.axis_label, plot.yaxis.axis_label = f"{cost_label}, log scale", score_label
    plot.xaxis.ticker = plot.xgrid.ticker = CustomJSTicker(major_code=_LOG_TICKS)
    plot.xaxis.formatter = CustomJSTickFormatter(code="return String(Number(tick.toPrecision(3)))")
    marks: list[DataRenderer] = []
    for line in lines:
        points = sorted(line.points, key=lambda point: point.cost)
        if not points:
            continue
        data = {
            "label": [point.label for point in points],
            "cost": [point.cost for point in points],
            "score": [point.score for point in points],
        }
        if len(points) > 1:
            width = 1.0 if line.published else 2.6 if line.role == "reference" else 1.8
            dash = "dotted" if line.published else "solid"
            plot.line(
                "cost",
                "score",
                source=data,
                line_width=width,
                line_dash=dash,
                color=line.color,
                name=named(line.title),
            )
        mark = plot.scatter(
            "cost",
            "score",
            source=data,
            marker=_MARKERS[line.role],
            size=_SIZES[line.role],
            fill_color="white" if line.published else line.color,
            line_color=line.color if line.published else "white",
            name=named(line.title),
            level="glyph",
        )
        marks.append(mark)
    tips = [("", "@label"), ("score", "@score{0.0} %"), ("cost", "@cost{0.[0000]}")]
    plot.add_tools(HoverTool(tooltips=tips, renderers=marks))
    if chance is not None:
        plot.add_layout(Span(location=chance, dimension="width", line_color=SOFT, line_dash=[5, 4]))
        plot.add_layout(
            Label(
                x=8,
                y=chance,
                x_units="screen",
                y_offset=3,
                text=f"chance {chance:.1f}",
                text_color=SOFT,
                text_font_size="12px",
            )
        )
    return plot
