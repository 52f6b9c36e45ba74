"""The course of a training for a page, from what it wrote into its work directory."""

import json
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from etils import epath

from ar_net_jax.reporting.page.blocks import Charts
from ar_net_jax.reporting.page.course import Course, course_chart
from ar_net_jax.training.writers import HISTORY

# Of a line; of more steps, each point is the mean of several that follow each other.
_POINTS = 60
_CHARTS = (
    ("Loss", "loss", ""),
    ("Validation mAP", "validation_mAP/", "%"),
    ("Choices", "usage/", "%"),
)


@dataclass
class History:
    """The scalars of a run.

    Attributes:
        stages: of each its name and the step, counted through all, at which it begins.
        values: of each scalar its steps, counted likewise, and values.
    """

    stages: list[tuple[str, float]] = field(default_factory=list)
    values: dict[str, list[tuple[float, float | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )


def read_history(workdir: epath.PathLike) -> History:
    """What a training wrote; empty where there is nothing, such as beside a converted model.

    Args:
        workdir: of the run.
    """
    found, start = History(), 0
    folder = epath.Path(workdir) / "history"
    stages = folder.iterdir() if folder.is_dir() else ()
    # They are named 0_warmup, 1_joint and so on.
    for path in sorted(stages, key=lambda path: (len(path.name.split("_")[0]), path.name)):
        if not (path / HISTORY).exists():
            continue
        lines = [json.loads(line) for line in (path / HISTORY).read_text().splitlines()]
        if not lines:
            continue
        found.stages.append((path.name.split("_", 1)[-1], float(start)))
        for line in lines:
            for name, value in line.items():
                if name not in ("step", "stage"):
                    found.values[name].append((float(start + line["step"]), value))
        start += max(line["step"] for line in lines)
    return found


def history_charts(workdir: epath.PathLike) -> Charts | None:
    """Loss, validation mAP and the choices over the steps of a training; None where unknown.

    Args:
        workdir: of the run.
    """
    found, charts = read_history(workdir), []
    for title, prefix, unit in _CHARTS:
        courses = [
            _course(name.removeprefix(prefix) or name, points, 100.0 if prefix == "usage/" else 1.0)
            for name, points in found.values.items()
            if name == prefix or (prefix.endswith("/") and name.startswith(prefix))
        ]
        if courses:
            charts.append(course_chart(title, courses, found.stages, unit))
    note = "Of many steps, a point is the mean of some that follow each other."
    return Charts(charts, note) if charts else None


def _course(name: str, points: list[tuple[float, float | None]], factor: float) -> Course:
    known = [(step, value) for step, value in points if value is not None]
    size = max(1, len(known) // _POINTS)
    means = [np.mean(known[i : i + size], axis=0) for i in range(0, len(known), size)]
    return Course(name, [float(x[0]) for x in means], [factor * float(x[1]) for x in means])
