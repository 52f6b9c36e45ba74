"""From what was measured to the rows of a benchmark: costs, rates, ratios to Uniform."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ar_net_jax.benchmarks.entries import Entry
from ar_net_jax.benchmarks.measure import Measurement
from ar_net_jax.config.model import CONVENTIONS, Convention
from ar_net_jax.costs import total_gflops
from ar_net_jax.evaluation.comparison import Role
from ar_net_jax.evaluation.evaluate import Figures, evaluate_model
from ar_net_jax.evaluation.metrics import action_usage
from ar_net_jax.inference.plans import Plans
from ar_net_jax.inference.step import Result, Routing
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.timing import Latency, summarise


@dataclasses.dataclass(frozen=True)
class WithDecoding:
    """Speed when every video is decoded from a file first."""

    videos_per_second: float
    latency_seconds: Latency


@dataclasses.dataclass(frozen=True)
class PartTime:
    """Median seconds of a part by itself, and their share of the whole model's."""

    seconds: float
    share: float


@dataclasses.dataclass(frozen=True)
class Waste:
    """What was computed and not needed.

    Attributes:
        filling_share: of the executed GFLOPs, spent on filling last chunks, or in the masked form
            on frames that were not chosen.
        covered_share: likewise, by the networks that decide, on frames that a skip covers.
        device_imbalance: executed GFLOPs of the busiest device over the mean.
    """

    filling_share: float
    covered_share: float
    device_imbalance: float


@dataclasses.dataclass(frozen=True)
class Ratios:
    """A model held against Uniform at all frames.

    Attributes:
        reference: title of Uniform's row.
        time_ratio: of the medians at the large batch.
        gflops_ratio: by what is needed.
        realised_saving: (1 - time ratio) / (1 - GFLOPs ratio), where computation is saved.
    """

    reference: str
    time_ratio: float
    gflops_ratio: float
    realised_saving: float | None


@dataclasses.dataclass(frozen=True)
class BenchmarkRow:
    """The figures of one entry.

    Attributes:
        method: its title.
        role: what it is in the comparison.
        config: name of its config, or folder of its checkpoint.
        num_frames: per video.
        dtype: of the backbones.
        routing: form of execution.
        plan: how the routed form ran, see `describe_plan`; None in the masked form.
        usage: share of frames by choice; None where there is one choice.
        usage_imposed: whether that was given.
        gflops_per_video: that were needed, by convention.
        executed_gflops_per_video: counted from the frames that were really computed.
        gflops_convention: the model's.
        waste: shares of the executed ones.
        latency_seconds: at `batch_1` and at `batch`.
        videos_per_second: from the median at the large batch.
        with_decoding: the same from video files.
        parts: of a method with several networks, by name; `rest` is what is left.
        compile_seconds: of the program at the large batch.
        program_bytes: that it needs on each device; None where the platform does not tell.
        trial_seconds: of the forms tried; None where one was given.
        ratios: to Uniform; None for that itself.
        split_figures: on the split; None where it was not scored.
    """

    method: str
    role: Role
    config: str
    num_frames: int
    dtype: str
    routing: Routing
    plan: dict[str, Any] | None
    usage: dict[str, float] | None
    usage_imposed: bool
    gflops_per_video: dict[Convention, float]
    executed_gflops_per_video: dict[Convention, float]
    gflops_convention: Convention
    waste: Waste
    latency_seconds: dict[str, Latency]
    videos_per_second: float
    with_decoding: WithDecoding
    parts: dict[str, PartTime] | None
    compile_seconds: float
    program_bytes: int | None
    trial_seconds: dict[Routing, float] | None
    ratios: Ratios | None = None
    split_figures: Figures | None = None

    def to_json(self) -> dict[str, Any]:
        """One mapping, `waste` and `ratios` among the other keys."""
        values = dataclasses.asdict(self)
        waste, ratios = values.pop("waste"), values.pop("ratios")
        without = dict.fromkeys(field.name for field in dataclasses.fields(Ratios))
        return {**values, **waste, **(ratios or without)}


def benchmark_rows(
    measured: Sequence[Measurement], scores: Mapping[str, Figures]
) -> list[BenchmarkRow]:
    """One row of figures for every entry.

    Args:
        measured: from `measure`.
        scores: by title, from `score`.
    """
    rows = {m.entry.title: _row(m, scores.get(m.entry.title)) for m in measured}
    references = {m.entry.title: m.entry.reference for m in measured}
    return [
        dataclasses.replace(row, ratios=compare(row, rows[reference.title]))
        if (reference := references[title])
        else row
        for title, row in rows.items()
    ]


def _row(m: Measurement, figures: Figures | None) -> BenchmarkRow:
    entry, method = m.entry, m.entry.method
    networks, choices = method.networks(), method.choices
    actions = np.concatenate([result.actions for result in m.results])
    usage = action_usage(actions, len(choices)).tolist()
    batch = len(m.results[0].actions)
    needed, executed = _calls(m.results), _executed(m.results)
    return BenchmarkRow(
        method=entry.title,
        role=entry.role,
        config=entry.spec,
        num_frames=entry.num_frames,
        dtype=method.config.dtype,
        routing=m.form,
        plan=m.plan,
        usage=dict(zip(choices.names, usage, strict=True)) if len(choices) > 1 else None,
        usage_imposed=entry.usage is not None,
        gflops_per_video={
            name: float(total_gflops(networks, needed, name)) / len(actions) for name in CONVENTIONS
        },
        executed_gflops_per_video={
            name: float(total_gflops(networks, executed, name).sum()) / len(actions)
            for name in CONVENTIONS
        },
        gflops_convention=method.config.gflops_convention,
        waste=_waste(entry, needed, executed),
        latency_seconds={"batch_1": summarise(m.single), "batch": summarise(m.batch)},
        videos_per_second=_rate(m.batch, batch),
        with_decoding=WithDecoding(_rate(m.decoded, batch), summarise(m.decoded)),
        parts=_part_times(m),
        compile_seconds=m.program.compile_seconds,
        program_bytes=m.program.memory_bytes,
        trial_seconds=m.trials or None,
        split_figures=figures,
    )


def _rate(seconds: np.ndarray, batch: int) -> float:
    return batch / float(np.median(seconds))


def _calls(results: Sequence[Result]) -> dict[str, float]:
    """How often each network was needed, over all that was measured."""
    return {
        name: float(sum(np.sum(result.calls[name], dtype=np.float64) for result in results))
        for name in results[0].calls
    }


def _executed(results: Sequence[Result]) -> dict[str, np.ndarray]:
    """How many frames each network computed on each device, int [D]."""
    return {
        name: np.sum([result.executed[name] for result in results], axis=0)
        for name in results[0].executed
    }


def _waste(entry: Entry, needed: Mapping[str, float], executed: Mapping[str, np.ndarray]) -> Waste:
    method = entry.method
    networks, convention = method.networks(), method.config.gflops_convention
    by_device = total_gflops(networks, executed, convention)
    unneeded = {name: float(executed[name].sum()) - calls for name, calls in needed.items()}
    deciding = set(method.choices.overhead)

    def share(wanted: bool) -> float:
        calls = {n: count for n, count in unneeded.items() if (n in deciding) == wanted}
        return float(total_gflops(networks, calls, convention)) / float(by_device.sum())

    return Waste(
        filling_share=share(False),
        covered_share=share(True),
        device_imbalance=float(by_device.max() / by_device.mean()),
    )


def _part_times(m: Measurement) -> dict[str, PartTime] | None:
    """Of each part; what they leave of the whole is the rest."""
    if not m.parts:
        return None
    whole = float(np.median(m.parts_whole))
    seconds = {name: float(np.median(values)) for name, values in m.parts.items()}
    seconds["rest"] = whole - sum(seconds.values())
    return {name: PartTime(s, s / whole) for name, s in seconds.items()}


def compare(row: BenchmarkRow, reference: BenchmarkRow) -> Ratios:
    """A row held against Uniform's at all frames."""
    convention = row.gflops_convention
    time_ratio = row.latency_seconds["batch"].p50 / reference.latency_seconds["batch"].p50
    gflops_ratio = row.gflops_per_video[convention] / reference.gflops_per_video[convention]
    saving = (1 - time_ratio) / (1 - gflops_ratio) if gflops_ratio < 1 else None
    return Ratios(reference.method, time_ratio, gflops_ratio, saving)


def score(entries: Sequence[Entry], chunks: Chunks | None, plans: Plans) -> dict[str, Figures]:
    """Accuracy and cost of trained models on their splits.

    Args:
        entries: any; those without videos are left out.
        chunks: sizes of chunk of the routed form, in place of a plan's.
        plans: of the models.

    Returns:
        By title.
    """
    return {
        entry.title: evaluate_model(
            entry.config,
            entry.variables,
            entry.split,
            num_frames=entry.num_frames,
            routing=entry.form or "routed",
            chunks=chunks,
            plan=plans.of(entry.method),
        ).figures
        for entry in entries
        if entry.split is not None
    }
