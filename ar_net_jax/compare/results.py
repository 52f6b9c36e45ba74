"""What a study found, typed: a row per method, with all that its tables and curves show."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ar_net_jax.compare.beside import ReferencePoint, at_equal_gflops, at_equal_time
from ar_net_jax.compare.judge import Judgement
from ar_net_jax.compare.published import MINI_KINETICS, Point, published_point
from ar_net_jax.compare.timing import Times
from ar_net_jax.config.model import Convention
from ar_net_jax.evaluation.comparison import Role
from ar_net_jax.evaluation.evaluate import Figures


def metric_of(data: str) -> str:
    """The score that a data set is judged by: `mAP`, or `top1` on Mini-Kinetics."""
    return "top1" if data == MINI_KINETICS else "mAP"


@dataclass(frozen=True)
class Summary:
    """A figure over seeds.

    Attributes:
        mean: of them.
        deviation: standard deviation of the sample; None of one seed.
        by_seed: each.
    """

    mean: float
    deviation: float | None
    by_seed: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """The summary of at least one value."""
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return cls(float(np.mean(values)), spread, tuple(float(value) for value in values))


@dataclass(frozen=True)
class CurvePoint:
    """A method in one setting, mean over seeds.

    Attributes:
        label: of the setting; empty for the trained one.
        num_frames: of a video.
        score: in percent.
        gflops: per video.
        milliseconds: median latency of one video; None where it was not timed.
    """

    label: str
    num_frames: int
    score: float
    gflops: float
    milliseconds: float | None


@dataclass(frozen=True)
class ResultRow:
    """What was found of a method.

    Attributes:
        name: of the row.
        method: title of the method.
        variant: of the data's config.
        role: what it is in the comparison.
        seeds: that were trained.
        score: in the study's metric, of the trained setting on the tested split, in percent.
        validation: likewise on validation.
        mAP: in percent.
        top1: in percent.
        gflops: per video.
        executed_gflops: per video, really computed.
        gflops_convention: how they are counted.
        usage: share of frames by choice, mean over seeds; None where there is one choice.
        control: score of the same networks under random decisions for as much; None where nothing
            is decided.
        published: the figures of its table for this data set, or those on ActivityNet.
        curve: every setting, by cost.
        times: of the first seed's model in the trained setting; None where it was not timed.
        equal_gflops: the reference with as many frames as its GFLOPs pay for; None for itself.
        equal_time: likewise for its median latency.
        weight: of the efficiency loss by seed, where it was searched for.
        matched: share by which the cost on validation is off the one to be met, by seed.
        training_seconds: of all seeds.
    """

    name: str
    method: str
    variant: str
    role: Role
    seeds: tuple[int, ...]
    score: Summary
    validation: Summary
    mAP: Summary
    top1: Summary
    gflops: Summary
    executed_gflops: Summary
    gflops_convention: Convention
    usage: dict[str, float] | None
    control: Summary | None
    published: Point | None
    curve: tuple[CurvePoint, ...]
    times: Times | None = None
    equal_gflops: ReferencePoint | None = None
    equal_time: ReferencePoint | None = None
    weight: tuple[float, ...] = ()
    matched: tuple[float, ...] = ()
    training_seconds: float | None = None


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        study: its name.
        summary: what it shows.
        data: name of the data set.
        split: that was tested on.
        metric: `mAP` or `top1`.
        rows: in the study's order.
        failures: why, by name of a row that was left out or failed.
        chance: score of guessing, in percent.
        device: that times were measured on.
        durations: seconds of `data`, `training`, `judging`, `timing` and `total` in the last call.
        versions: of packages.
    """

    study: str
    summary: str
    data: str
    split: str
    metric: str
    rows: tuple[ResultRow, ...]
    failures: dict[str, str]
    chance: float
    device: str
    durations: dict[str, float]
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """As `study.json` holds it."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Found:
    """What is known of a row, from which its result follows.

    Attributes:
        name: of the row.
        method: title of the method.
        variant: of the data's config.
        role: what it is in the comparison.
        published: its name among published figures.
        judgements: by seed.
        times: by label of the setting, of the first seed's model.
    """

    name: str
    method: str
    variant: str
    role: Role
    published: str
    judgements: Mapping[int, Judgement]
    times: Mapping[str, Times]


def result_row(found: Found, data: str) -> ResultRow:
    """A row's result, without what it is held against."""
    metric, judged = metric_of(data), list(found.judgements.values())
    trained = [judgement.trained for judgement in judged]

    def over_seeds(name: str, figures: Sequence[Figures] = trained) -> Summary:
        return Summary.of([getattr(one, name) for one in figures])

    controls = [getattr(j.control, metric) for j in judged if j.control is not None]
    return ResultRow(
        name=found.name,
        method=found.method,
        variant=found.variant,
        role=found.role,
        seeds=tuple(found.judgements),
        score=over_seeds(metric),
        validation=over_seeds(metric, [judgement.validation for judgement in judged]),
        mAP=over_seeds("mAP"),
        top1=over_seeds("top1"),
        gflops=over_seeds("gflops_per_video"),
        executed_gflops=over_seeds("executed_gflops_per_video"),
        gflops_convention=trained[0].gflops_convention,
        usage=_mean_usage([figures.usage for figures in trained]),
        control=Summary.of(controls) if controls else None,
        published=_published(found.published, data),
        curve=_curve(judged, metric, found.times),
        times=found.times.get(""),
    )


def hold_against(rows: Sequence[ResultRow], reference: str) -> tuple[ResultRow, ...]:
    """Puts the reference at equal cost and at equal time beside every other row.

    Args:
        rows: of a study.
        reference: name of its reference, which may be missing.
    """
    points = [
        ReferencePoint(point.num_frames, point.score, point.gflops, point.milliseconds)
        for row in rows
        if row.name == reference
        for point in row.curve
    ]
    if not points:
        return tuple(rows)
    return tuple(row if row.name == reference else _beside(row, points) for row in rows)


def _beside(row: ResultRow, points: Sequence[ReferencePoint]) -> ResultRow:
    times = row.times
    return dataclasses.replace(
        row,
        equal_gflops=at_equal_gflops(points, row.gflops.mean),
        equal_time=None if times is None else at_equal_time(points, 1e3 * times.latency.p50),
    )


def _published(method: str, data: str) -> Point | None:
    return published_point(method, data) or published_point(method, "activitynet")


def _curve(
    judged: Sequence[Judgement], metric: str, times: Mapping[str, Times]
) -> tuple[CurvePoint, ...]:
    points = []
    for scores in zip(*(judgement.scores for judgement in judged), strict=True):
        figures = [score.figures for score in scores]
        label = scores[0].setting.label
        points.append(
            CurvePoint(
                label=label,
                num_frames=figures[0].num_frames,
                score=float(np.mean([getattr(one, metric) for one in figures])),
                gflops=float(np.mean([one.gflops_per_video for one in figures])),
                milliseconds=1e3 * times[label].latency.p50 if label in times else None,
            )
        )
    return tuple(sorted(points, key=lambda point: point.gflops))


def _mean_usage(usages: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    known = [usage for usage in usages if usage]
    if not known:
        return None
    return {name: float(np.mean([usage[name] for usage in known])) for name in known[0]}
