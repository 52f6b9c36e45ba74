"""Measures speed, latency, memory and executed GFLOPs of models beside Uniform, in one run.

Every model is timed in turn, round after round, with the device waited for: each --config with
fresh weights or those of its checkpoint, Uniform at all frames, and Uniform at as many frames as
a model's GFLOPs pay for (rounded down and up). What treats every frame alike runs in the faster
form, plain or chunk by chunk. Trained models are scored too, where their data set is prepared.

--usage imposes the mix of actions, so that no trained policy is needed; the policy runs on all
frames all the same. `half` and `quarter` are mixes for four resolutions and `skip 1` that cost
about that share of Uniform's GFLOPs; else give one number per action, as for `arnet costs`.

The output folder gets benchmark.json, benchmark.md and, where models were scored, curve.png (mAP
against GFLOPs) and curve_time.png (mAP against measured time).

Examples:
  arnet benchmark --configs=activitynet --usage=half --usage=quarter --config.model.dtype=float32
  arnet benchmark --checkpoints=arnet_demo/ar_net,arnet_demo/uniform --batch=8
  arnet benchmark --configs=demo,demo:multi_scale --usage=.3,.1,.3,.3,0,0 --quick
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax

from ar_net_jax.benchmarks.figures import benchmark_rows, score
from ar_net_jax.benchmarks.machine import describe_machine, peak_memory
from ar_net_jax.benchmarks.report import print_benchmark, write_benchmark
from ar_net_jax.benchmarks.rounds import Settings, run_rounds
from ar_net_jax.benchmarks.subjects import Subject, read_subjects, split_names
from ar_net_jax.benchmarks.torch_baseline import torch_calls, torch_ratios
from ar_net_jax.cli.flags import numbers
from ar_net_jax.errors import UserError
from ar_net_jax.reporting.tables import package_versions

_REPETITIONS, _QUICK_REPETITIONS = 5, 2
# An accelerator needs many frames at once to show what it can do.
_BATCH_ON_CPU, _BATCH_ELSEWHERE = 4, 32


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument("--configs", metavar="NAME[:variant],...", help="shipped configs, or files")
    parser.add_argument(
        "--checkpoints",
        metavar="DIR,...",
        help="trained models, with the configs they carry or one for each of --configs",
    )
    parser.add_argument(
        "--usage",
        action="append",
        default=[],
        metavar="half|quarter|A,B,...",
        help="impose shares or numbers of frames per action on AR-Nets; may be repeated",
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="of videos (default: 4 on a CPU, 32 elsewhere)"
    )
    parser.add_argument(
        "--num_frames", type=int, metavar="N", help="of a video (default: each config's)"
    )
    parser.add_argument(
        "--repetitions", type=int, metavar="N", help="rounds (default: 5, or 2 with --quick)"
    )
    parser.add_argument(
        "--routing",
        choices=("routed", "masked"),
        default="routed",
        help="form of the models that choose (default: %(default)s)",
    )
    parser.add_argument(
        "--chunks",
        type=numbers(int),
        metavar="N[,N...]",
        help="frames that a backbone computes at once, descending (default: measured ones)",
    )
    parser.add_argument(
        "--split", default="test", help="that trained models are scored on (default: %(default)s)"
    )
    parser.add_argument(
        "--against_torch",
        action="store_true",
        help="time torchvision's network beside Uniform (needs the extra parity)",
    )
    parser.add_argument(
        "--output", default="arnet_benchmark", metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--quick", action="store_true", help="few calls: to see that it runs")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    settings = _settings(flags)
    if flags.num_frames is not None and flags.num_frames < 1:
        raise UserError(f"--num_frames: must be at least 1, got {flags.num_frames}")
    keeps = jax.config.jax_enable_compilation_cache
    # A program found compiled would hide what compiling costs.
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        _benchmark(flags, overrides, settings)
    finally:
        jax.config.update("jax_enable_compilation_cache", keeps)


def _benchmark(flags: argparse.Namespace, overrides: Sequence[str], settings: Settings) -> None:
    subjects = read_subjects(
        split_names(flags.configs, flags.checkpoints),
        overrides,
        usages=flags.usage,
        num_frames=flags.num_frames,
        form=flags.routing,
        split=flags.split,
    )
    extra = {}
    if flags.against_torch:
        extra = torch_calls(_only_uniform(subjects), settings.batch, jax.default_backend())
    scores = score(subjects, settings.chunks)
    costs = {title: row["gflops_per_video"] for title, row in scores.items()}
    measured, extra_seconds = run_rounds(subjects, settings, costs=costs, extra=extra)
    rows, peak = benchmark_rows(measured), peak_memory()
    fewer = [m.subject for m in measured if m.subject.title not in scores]
    scores |= score(fewer, settings.chunks)
    uniform = next(m for m in measured if m.subject.reference is None)
    document = {
        "results": [{**row, "split_figures": scores.get(row["approach"])} for row in rows],
        "settings": {
            **dataclasses.asdict(settings),
            "configs": flags.configs,
            "checkpoints": flags.checkpoints,
            "usage": flags.usage,
            "overrides": list(overrides),
        },
        "machine": describe_machine(),
        "versions": package_versions(),
        "peak_memory": peak,
        "torch": torch_ratios(uniform, extra_seconds) if extra else None,
    }
    print_benchmark(document)
    files = write_benchmark(Path(flags.output), document)
    print(f"results: {', '.join(f'{flags.output}/{name}' for name in files)}")


def _settings(flags: argparse.Namespace) -> Settings:
    on_cpu = jax.default_backend() == "cpu"
    batch = flags.batch
    if batch is None:
        batch = _BATCH_ON_CPU if on_cpu else _BATCH_ELSEWHERE
    repetitions = flags.repetitions
    if repetitions is None:
        repetitions = _QUICK_REPETITIONS if flags.quick else _REPETITIONS
    for name, value in (("batch", batch), ("repetitions", repetitions)):
        if value < 1:
            raise UserError(f"--{name}: must be at least 1, got {value}")
    if batch % jax.device_count():
        raise UserError(
            f"--batch={batch}: does not divide evenly over {jax.device_count()} devices; choose "
            f"a multiple of {jax.device_count()}"
        )
    return Settings(
        batch=batch,
        repetitions=repetitions,
        chunks=flags.chunks,
        quick=flags.quick,
        progress=not flags.quiet,
    )


def _only_uniform(subjects: Sequence[Subject]) -> Subject:
    uniforms = [s for s in subjects if s.reference is None]
    if len(uniforms) > 1:
        raise UserError(
            "--against_torch: these configs have several Uniforms "
            f"({', '.join(s.title for s in uniforms)}); give configs that share one"
        )
    return uniforms[0]
