"""From what was measured to the figures of a benchmark: costs, rates, ratios to Uniform."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ar_net_jax.benchmarks.rounds import Measurement
from ar_net_jax.benchmarks.subjects import Subject
from ar_net_jax.config.model import CONVENTIONS
from ar_net_jax.costs.executed import executed_gflops
from ar_net_jax.costs.model_costs import model_cost_table
from ar_net_jax.evaluation.evaluate import evaluate_model
from ar_net_jax.evaluation.metrics import action_usage
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.timing import summarise


def benchmark_rows(measured: Sequence[Measurement]) -> list[dict[str, Any]]:
    """One row of figures for every subject.

    Args:
        measured: from `run_rounds`.

    Returns:
        For each, `approach` (its title), `config`, `num_frames`, `dtype`, `routing`, and

        - `usage`: share of frames by action, or None; `usage_imposed`.
        - `gflops_per_video` by the usage formula, and `executed_gflops_per_video`, counted from
          the frames that were really computed, by convention; `gflops_convention`, the model's.
        - `filling_share` and `covered_share` of the executed GFLOPs: spent on filling last
          chunks, and by the policy on frames that a skip covers.
        - `device_imbalance`: executed GFLOPs of the busiest device over the mean.
        - `latency_seconds`: p50 and p99 at `batch_1` and at `batch`; `videos_per_second`, from
          the median at `batch`; the same of `with_decoding`.
        - `parts`: median seconds and share of time of each part; `rest` is what is left.
        - `compile_seconds`, `program_bytes`; `trial_seconds` of the forms tried, or None.
        - `reference`, `time_ratio` and `gflops_ratio` to it, and `realised_saving`, see
          `compare`; None for a reference.
    """
    rows = [_row(m) for m in measured]
    by_title = {row["approach"]: row for row in rows}
    for m, row in zip(measured, rows):
        reference = by_title[m.subject.reference.title] if m.subject.reference else None
        row.update(compare(row, reference))
    return rows


def _row(m: Measurement) -> dict[str, Any]:
    subject, model = m.subject, m.subject.config.model
    videos = sum(len(answer.actions) for answer in m.answers)
    batch = len(m.answers[0].actions)
    tables = {name: model_cost_table(model, name) for name in CONVENTIONS}
    actions = np.concatenate([answer.actions for answer in m.answers])
    usage = action_usage(actions, len(tables["macs"].actions))
    computed = np.sum([answer.computed for answer in m.answers], axis=0)
    executed = {
        name: executed_gflops(model, computed.sum(0), actions.size, name) / videos
        for name in CONVENTIONS
    }
    row = {
        "approach": subject.title,
        "config": subject.spec,
        "num_frames": subject.num_frames,
        "dtype": model.dtype,
        "routing": m.form,
        "usage": dict(zip(model.space.names, usage.tolist())) if subject.chooses else None,
        "usage_imposed": subject.usage is not None,
        "gflops_per_video": {
            name: float(table.per_video(usage, subject.num_frames))
            for name, table in tables.items()
        },
        "executed_gflops_per_video": executed,
        "gflops_convention": model.gflops_convention,
        **_waste(subject, actions, computed),
        "latency_seconds": {"batch_1": summarise(m.single), "batch": summarise(m.batch)},
        "videos_per_second": _rate(m.batch, batch),
        "with_decoding": {
            "videos_per_second": _rate(m.decoded, batch),
            "latency_seconds": summarise(m.decoded),
        },
        "parts": _part_shares(m),
        "compile_seconds": m.program.compile_seconds,
        "program_bytes": m.program.memory_bytes,
        "trial_seconds": m.trials or None,
    }
    return row


def _rate(seconds: np.ndarray, batch: int) -> float:
    return batch / float(np.median(seconds))


def _waste(subject: Subject, actions: np.ndarray, computed: np.ndarray) -> dict[str, float]:
    """Shares of the executed GFLOPs, and how unevenly devices are loaded.

    Args:
        subject: which.
        actions: int32 [N, T].
        computed: int [D, K] or [D, K + 1], summed over what was measured.
    """
    model, convention = subject.config.model, subject.config.model.gflops_convention
    steps = actions.size
    executed = executed_gflops(model, computed.sum(0), steps, convention)
    needed = computed.sum(0).copy()
    for index in range(len(model.backbones)):
        needed[index] = (actions == index).sum() if subject.chooses else steps
    filling = executed - executed_gflops(model, needed, steps, convention)
    covered = 0.0
    if subject.chooses:
        table = model_cost_table(model, convention)
        usage = action_usage(actions, len(table.actions))
        unseen = 1.0 - float((usage * np.asarray(table.policy_visits)).sum())
        covered = unseen * steps * (table.policy + table.lstm)
    per_device = [
        executed_gflops(model, own, steps // len(computed), convention) for own in computed
    ]
    return {
        "filling_share": filling / executed,
        "covered_share": covered / executed,
        "device_imbalance": max(per_device) / float(np.mean(per_device)),
    }


def _part_shares(m: Measurement) -> dict[str, dict[str, float]] | None:
    """Median seconds and share of the whole of each part; what they leave is the rest."""
    if not m.parts:
        return None
    whole = float(np.median(m.parts_whole))
    seconds = {name: float(np.median(values)) for name, values in m.parts.items()}
    seconds["rest"] = whole - sum(seconds.values())
    return {name: {"seconds": s, "share": s / whole} for name, s in seconds.items()}


def compare(row: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, Any]:
    """A row held against Uniform at all frames.

    Args:
        row: of a model.
        reference: Uniform's row; None where the row is that.

    Returns:
        `reference`, `time_ratio` of the medians at the large batch, `gflops_ratio` by the usage
        formula, and `realised_saving`, (1 - time ratio) / (1 - GFLOPs ratio), where computation
        is saved. All None without a reference.
    """
    names = ("reference", "time_ratio", "gflops_ratio", "realised_saving")
    if reference is None:
        return dict.fromkeys(names)
    convention = row["gflops_convention"]
    time_ratio = _median_time(row) / _median_time(reference)
    gflops_ratio = row["gflops_per_video"][convention] / reference["gflops_per_video"][convention]
    saving = (1 - time_ratio) / (1 - gflops_ratio) if gflops_ratio < 1 else None
    return dict(zip(names, (reference["approach"], time_ratio, gflops_ratio, saving)))


def _median_time(row: Mapping[str, Any]) -> float:
    return row["latency_seconds"]["batch"]["p50"]


def score(subjects: Sequence[Subject], chunks: Chunks | None) -> dict[str, dict[str, Any]]:
    """Accuracy and cost of trained models on their splits.

    Args:
        subjects: any; those without videos are left out.
        chunks: sizes of chunk of the routed form.

    Returns:
        By title the row of `evaluate_model`.
    """
    return {
        subject.title: evaluate_model(
            subject.config,
            subject.variables,
            subject.split,
            num_frames=subject.num_frames,
            routing=subject.form or "routed",
            chunks=chunks,
        ).row
        for subject in subjects
        if subject.split is not None
    }
