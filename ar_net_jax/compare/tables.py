"""A study's tables, as cells of text for any form of table, and as flat figures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ar_net_jax.compare.beside import ReferencePoint
from ar_net_jax.compare.results import ResultRow, StudyResult, Summary

USAGE = "Share of frames by choice"
"""Title of the table that tells it as text."""

_METRICS = {"mAP": "mAP", "top1": "top-1"}


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: over it.
        columns: their heads.
        cells: the rows.
        note: below it.
    """

    title: str
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    note: str = ""


def study_tables(result: StudyResult) -> list[Table]:
    """Scores beside the published ones, controls, times, usage, and what was searched for."""
    makers = (_scores, _controls, _times, _usage, _searched)
    tables = [maker(result) for maker in makers]
    return [table for table in tables if table.cells]


def _scores(result: StudyResult) -> Table:
    metric = _METRICS[result.metric]
    other = "top1" if result.metric == "mAP" else "mAP"
    cells = []
    for row in result.rows:
        theirs, same = row.published, row.published and row.published.data == result.data
        cells.append(
            (
                row.method,
                told(row.score),
                told(getattr(row, other)),
                gflops(row.gflops.mean),
                "" if theirs is None else f"{theirs.score:.1f}",
                difference(row.score.mean - theirs.score) if theirs and same else "",
                "" if theirs is None else f"{theirs.gflops:.2f}",
                difference(row.gflops.mean - theirs.gflops, 2) if theirs and same else "",
            )
        )
    where = {row.published.data for row in result.rows if row.published} or {"none"}
    seeds = max(len(row.seeds) for row in result.rows)
    conventions = ", ".join(dict.fromkeys(row.gflops_convention for row in result.rows))
    return Table(
        "Scores and computation",
        (
            "Method",
            f"{metric} (%)",
            f"{_METRICS[other]} (%)",
            "GFLOPs/video",
            "published score",
            "diff.",
            "published GFLOPs/video",
            "diff.",
        ),
        tuple(cells),
        f"Mean ± standard deviation over {seeds} seed{'' if seeds == 1 else 's'}; GFLOPs per video "
        f"counted as `{conventions}`. Published: on {', '.join(sorted(where))}, each in its own "
        "count; differences are told where that is the data set at hand.",
    )


def _controls(result: StudyResult) -> Table:
    reference = next((row.method for row in result.rows if row.role == "reference"), "reference")

    def beside(row: ResultRow, point: ReferencePoint | None) -> tuple[str, str]:
        if point is None:
            return "", ""
        return f"{point.score:.1f} (k={point.num_frames})", difference(row.score.mean - point.score)

    cells = []
    for row in result.rows:
        if row.equal_gflops is None:
            continue
        control = row.control
        cells.append(
            (
                row.method,
                told(row.score),
                "" if control is None else told(control),
                "" if control is None else difference(row.score.mean - control.mean),
                *beside(row, row.equal_gflops),
                *beside(row, row.equal_time),
            )
        )
    return Table(
        "Against what spends the same",
        (
            "Method",
            f"{_METRICS[result.metric]} (%)",
            "at random",
            "diff.",
            f"{reference}-k, equal GFLOPs",
            "diff.",
            f"{reference}-k, equal ms",
            "diff.",
        ),
        tuple(cells),
        "At random: the same networks under decisions that spend the same, drawn at random. "
        f"{reference}-k: the fewest frames that cost, or take, at least as much.",
    )


def _times(result: StudyResult) -> Table:
    cells = []
    for row in result.rows:
        times = row.times
        if times is None or times.decoded_latency is None or times.videos_per_second is None:
            continue
        cells.append(
            (
                row.method,
                f"{1e3 * times.latency.p50:.2f}",
                f"{1e3 * times.latency.p95:.2f}",
                f"{1e3 * times.decoded_latency.p50:.1f}",
                f"{1e3 * times.decoded_latency.p95:.1f}",
                f"{times.videos_per_second:.1f}",
                f"{times.decoded_videos_per_second:.1f}",
                str(times.best_batch),
                f"{times.form}, {times.dtype}",
            )
        )
    return Table(
        "Time",
        (
            "Method",
            "ms, median",
            "95%",
            "decoded: ms, median",
            "95%",
            "videos/s",
            "decoded: videos/s",
            "batch",
            "form",
        ),
        tuple(cells),
        f"On {result.device}, in one process in turn. Latency at batch 1, throughput at the batch "
        "size of those tried that gives most; the frames lie on the device, or every video is "
        "decoded from a file first.",
    )


def _usage(result: StudyResult) -> Table:
    rows = [row for row in result.rows if row.usage]
    return Table(
        USAGE,
        ("Method", "usage"),
        tuple(
            (
                row.method,
                ", ".join(f"{name} {share:.0%}" for name, share in (row.usage or {}).items()),
            )
            for row in rows
        ),
    )


def _searched(result: StudyResult) -> Table:
    return Table(
        "Weight of the efficiency loss, searched for on validation",
        ("Row", "weight by seed", "cost is off by"),
        tuple(
            (
                row.name,
                ", ".join(f"{weight:.4g}" for weight in row.weight),
                ", ".join(f"{off:.1%}" for off in row.matched),
            )
            for row in result.rows
            if row.weight
        ),
    )


def told(summary: Summary) -> str:
    """Mean, and deviation where there are several seeds."""
    spread = "" if summary.deviation is None else f" ± {summary.deviation:.1f}"
    return f"{summary.mean:.1f}{spread}"


def difference(value: float, digits: int = 1) -> str:
    """With its sign."""
    return f"{value:+.{digits}f}"


def gflops(value: float) -> str:
    """Four significant digits: small models cost hundredths of a GFLOP."""
    return f"{value:.4g}"


def flat_rows(result: StudyResult) -> list[dict[str, Any]]:
    """One flat mapping of unrounded figures for each row; what is not known is left out."""
    return [_flat(row) for row in result.rows]


def _flat(row: ResultRow) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "name": row.name,
        "method": row.method,
        "seeds": " ".join(map(str, row.seeds)),
    }

    def add(prefix: str, value: object, *names: str, scale: Callable[[Any], Any] = float) -> None:
        for name in names:
            found = None if value is None else getattr(value, name)
            flat[f"{prefix}_{name}"] = "" if found is None else scale(found)

    for name in ("score", "validation", "mAP", "top1", "gflops", "executed_gflops", "control"):
        add(name, getattr(row, name), "mean", "deviation")
    flat["gflops_convention"] = row.gflops_convention
    add("published", row.published, "data", "source", scale=str)
    add("published", row.published, "score", "gflops")
    for name in ("equal_gflops", "equal_time"):
        add(name, getattr(row, name), "num_frames", "score", "gflops", "milliseconds")
    times = row.times
    add("latency", times and times.latency, "p50", "p95")
    add("decoded_latency", times and times.decoded_latency, "p50", "p95")
    add("throughput", times, "best_batch", "videos_per_second", "decoded_videos_per_second")
    flat["training_seconds"] = "" if row.training_seconds is None else row.training_seconds
    return flat
