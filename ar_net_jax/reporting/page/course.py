"""The course of a training, to point at."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from bokeh.models import CustomJSTickFormatter, HoverTool
from bokeh.models.annotations import Label, Span
from bokeh.models.renderers import DataRenderer
from bokeh.plotting import figure

from ar_net_jax.reporting.page.blocks import Chart, Key
from ar_net_jax.reporting.page.plot import PALETTE, SOFT, empty_figure, named, no_formula


@dataclass(frozen=True)
class Course:
    """A scalar over the steps of a training.

    Attributes:
        name: of the scalar.
        steps: counted through all stages.
        values: at each.
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float]


def course_chart(
    title: str, courses: Sequence[Course], stages: Sequence[tuple[str, float]], unit: str = ""
) -> Chart:
    """Scalars over the steps of a training.

    Args:
        title: of the chart.
        courses: what is drawn.
        stages: of each stage its name and the step at which it begins.
        unit: of the values.
    """
    plot = empty_figure()
    plot.xaxis.axis_label = "step"
    plot.yaxis.axis_label = unit or None
    plot.xaxis.formatter = CustomJSTickFormatter(code="return tick.toLocaleString('en')")
    keys = []
    marks: list[DataRenderer] = []
    for course, color in zip(courses, itertools.cycle(PALETTE)):
        data = {
            "step": list(course.steps),
            "value": list(course.values),
            "name": [course.name] * len(course.steps),
            "stage": [_stage_at(stages, step) for step in course.steps],
        }
        name = named(course.name)
        plot.line("step", "value", source=data, line_width=1.8, color=color, name=name)
        # Seen where the pointer is.
        dots = plot.scatter(
            "step", "value", source=data, size=6, alpha=0.0, hover_alpha=1, color=color, name=name
        )
        marks.append(dots)
        keys.append(Key(course.name, color, name))
    plot.add_tools(HoverTool(renderers=marks, tooltips=_course_tips(unit)))
    end = max(course.steps[-1] for course in courses)
    for name, start in stages:
        _mark_stage(plot, name, start, late=start > 0.85 * end)
    return Chart(plot, height=270, key=keys, title=title)


def _mark_stage(plot: figure, name: str, start: float, *, late: bool) -> None:
    """A line where a stage begins, and its name beside it; to the left of a late one."""
    plot.add_layout(Span(location=start, dimension="height", line_color=SOFT, line_dash=[2, 3]))
    plot.add_layout(
        Label(
            x=start,
            y=3,
            x_offset=-4 if late else 4,
            y_units="screen",
            text=no_formula(name),
            text_align="right" if late else "left",
            text_font_size="11px",
            text_color=SOFT,
            background_fill_color="white",
            background_fill_alpha=0.75,
        )
    )


def _course_tips(unit: str) -> list[tuple[str, str]]:
    return [("", "@name"), ("stage", "@stage"), ("step", "@step{0,0}"), (unit or "value", "@value")]


def _stage_at(stages: Sequence[tuple[str, float]], step: float) -> str:
    return [name for name, start in stages if start <= step][-1]
