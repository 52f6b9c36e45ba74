"""Rows of a comparison for a page: the table to sort, and the curves to point at."""

from collections.abc import Callable, Mapping, Sequence

from ar_net_jax.evaluation.comparison import Row
from ar_net_jax.reporting.page.blocks import Block, Cell, Chart, Column, Listing, Section, Table
from ar_net_jax.reporting.page.cost_curve import CurveLine, CurvePoint, colors_of, cost_curve
from ar_net_jax.reporting.page.view import number

CONVENTIONS = {
    "macs": "multiply-accumulates of convolutions and matrix products, in 1e9",
    "paper": "multiply-accumulates in 1e9 with BatchNorm terms and the paper's LSTM formula",
}
"""How GFLOPs are counted, in words."""


def results_table(rows: Sequence[Row], chance: Mapping[str, float] | None) -> Table:
    """Scores, computation and speed of every model.

    Args:
        rows: of the comparison. Speed gets a column where all have it.
        chance: `mAP` and `top1` in percent of guessing; its row stays last.
    """
    timed = all(row.speed is not None for row in rows)
    columns = [
        Column("Method", numeric=False),
        Column("mAP (%)", "mean over classes of the average precision"),
        Column("Top-1 (%)", "share of videos whose first class is the best scored one"),
        Column("GFLOPs/frame", "of a mean frame"),
        Column("GFLOPs/video", "of all sampled frames"),
        *([Column("Videos/s", "the model alone, on this machine")] if timed else []),
    ]
    cells = []
    for row, color in zip(rows, colors_of([row.role for row in rows])):
        figures = row.figures
        cells.append(
            [
                Cell(row.method, color=color),
                number(figures.mAP, ".1f"),
                number(figures.top1, ".1f"),
                number(figures.gflops_per_frame, "#.3g"),
                number(figures.gflops_per_video, "#.3g"),
                *([number(row.speed.videos_per_second, ".0f")] if timed and row.speed else []),
            ]
        )
    last: list[Cell] = []
    if chance is not None:
        known = [Cell("Chance"), number(chance["mAP"], ".1f"), number(chance["top1"], ".1f")]
        last = known + [Cell("")] * (len(columns) - len(known))
    counted = dict.fromkeys(row.figures.gflops_convention for row in rows)
    told = "; ".join(f"{name}: {CONVENTIONS[name]}" for name in counted)
    bold = frozenset(i for i, row in enumerate(rows) if row.role == "adaptive")
    return Table(columns, cells, bold, last, f"A click on a head sorts. GFLOPs as {told}.")


def results_curve(rows: Sequence[Row], chance: Mapping[str, float] | None) -> Chart:
    """Draws mAP against GFLOPs, and against time where it was measured.

    Args:
        rows: of the comparison; reference rows are joined.
        chance: as of `results_table`.
    """
    labels: dict[str, Callable[[Row], float]] = {"GFLOPs per video": _gflops}
    if all(row.speed is not None for row in rows):
        labels["milliseconds per video"] = _milliseconds
    lines = {label: _lines(rows, cost) for label, cost in labels.items()}
    return cost_curve(lines, "mAP (%)", chance["mAP"] if chance else None)


def _lines(rows: Sequence[Row], cost: Callable[[Row], float]) -> list[CurveLine]:
    """A line for each row, and one for all of the reference."""
    lines: dict[str, CurveLine] = {}
    for row, color in zip(rows, colors_of([row.role for row in rows])):
        point = CurvePoint(row.method, cost(row), row.figures.mAP)
        # Its rows are named "Uniform, 8 frames" and so on.
        title = row.method.split(",")[0] if row.role == "reference" else row.method
        points = lines[title].points if title in lines else ()
        lines[title] = CurveLine(title, row.role, color, [*points, point])
    return list(lines.values())


def _gflops(row: Row) -> float:
    return row.figures.gflops_per_video


def _milliseconds(row: Row) -> float:
    """From videos per second; of a video among many at once."""
    assert row.speed is not None
    return 1e3 / row.speed.videos_per_second


def origin(
    versions: Mapping[str, str], more: Sequence[Block] = (), config: str | None = None
) -> Section:
    """What a page's figures come from.

    Args:
        versions: of packages.
        more: blocks before them.
        config: as indented JSON; None where each model shows its own.
    """
    listed = "\n".join(f"{name:<20} {version}" for name, version in versions.items())
    configs = [] if config is None else [Listing("Config", config)]
    title = "Versions" if config is None else "Config and versions"
    return Section(title, [*more, *configs, Listing("Versions", listed)])
