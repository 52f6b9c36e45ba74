"""A benchmark of chips that are not at hand: bounds in place of measurements."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ar_net_jax.benchmarks.entries import split_names
from ar_net_jax.benchmarks.usage import read_usage
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.described import InferenceCheck, check_inference
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.reporting.tables import plain_json
from ar_net_jax.runtime.storage import write_json
from ar_net_jax.topology import Slice

FILE = "topology.json"
"""What is written to the output folder."""


@dataclasses.dataclass(frozen=True)
class DescribedRow:
    """One program of the benchmark.

    Attributes:
        spec: name of its config.
        config: of the model.
        usage_name: as it was given; empty where every choice is as frequent as any other.
        check: what the program needs.
    """

    spec: str
    config: Config
    usage_name: str
    check: InferenceCheck


def describe_benchmark(
    configs: str,
    wanted: Slice,
    overrides: Sequence[str],
    *,
    usages: Sequence[str],
    videos: int,
    num_frames: int | None,
    chunks: Chunks | None,
) -> list[DescribedRow]:
    """Compiles routed inference of every config for one chip.

    Args:
        configs: as for `split_names`.
        wanted: a slice with such chips.
        overrides: such as `--config.model.dtype=float32`.
        usages: see `read_usage`; none takes every choice as often as any other.
        videos: in a batch.
        num_frames: per video; each config's by default.
        chunks: sizes of chunk for every network.

    Raises:
        UserError: a bad config or usage, impossible chunks; and as `topology.describe_devices`.
    """
    loaded = [(s.name, load_config(s.name, overrides)) for s in split_names(configs, None)]
    planned = []
    for spec, config in loaded:
        method = config.build_method()
        # One choice leaves nothing to impose.
        names = usages if usages and len(method.choices) > 1 else ("",)
        shares = [read_usage(name, method) if name else None for name in names]
        planned.append((spec, config, names, shares))
    rows = []
    for spec, config, names, shares in planned:
        checks = check_inference(
            config, wanted, shares, videos=videos, num_frames=num_frames, chunks=chunks
        )
        rows += [DescribedRow(spec, config, *each) for each in zip(names, checks)]
    return rows


def write_described(folder: Path, wanted: Slice, rows: Sequence[DescribedRow]) -> None:
    """Writes the figures as JSON.

    Args:
        folder: made if need be.
        wanted: the slice whose chip was compiled for.
        rows: of `describe_benchmark`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = {"chip": dataclasses.asdict(wanted.chip), "results": list(map(_row, rows))}
    write_json(folder / FILE, plain_json(document))


def _row(row: DescribedRow) -> dict[str, Any]:
    check = row.check
    return {
        "config": row.spec,
        "usage_name": row.usage_name,
        **dataclasses.asdict(check),
        "bound_seconds": check.chip.roofline.seconds,
        "bound_by": check.chip.roofline.binds,
        "needed_bytes": check.chip.needed,
        "time_ratio": check.time_ratio,
        "expected_saving": check.expected_saving,
    }
