"""Measures speed, latency, memory and executed GFLOPs of models beside Uniform, in one run.

Every model is timed in turn, round after round, with the device waited for: each --config with
fresh weights or those of its checkpoint, Uniform at all frames, and Uniform at as many frames as
a model's GFLOPs pay for (rounded down and up). What treats every frame alike runs in the faster
form, plain or chunk by chunk. Trained models are scored too, where their data set is prepared.

--usage imposes the mix of choices, so that no trained policy is needed; the policy runs on all
frames all the same. `half` and `quarter` are mixes that cost about that share of Uniform's GFLOPs;
else give one number per choice, as for `arnet costs`. Without it, a policy that is trained and has
its videos here decides by itself, and any other gets `half`.

The output folder gets benchmark.json, benchmark.md and, where models were scored, curve.png (mAP
against GFLOPs) and curve_time.png (mAP against measured time).

--topology compiles for one TPU chip that need not be here, and gives bounds in place of
measurements, with the saving to be expected, in topology.json.

--suite=device measures a borrowed accelerator within --budget, in order of importance: agreement
with a CPU's logits, AR-Net beside Uniform by batch and precision, PyTorch, training steps, chunks,
the other methods. device.json and device.md are whole after every step. A CPU gets a short form.

Examples:
  arnet benchmark --suite=device --budget=8m
  arnet benchmark --configs=activitynet --usage=half --usage=quarter --config.model.dtype=float32
  arnet benchmark --checkpoints=arnet_demo/ar_net,arnet_demo/uniform --batch=8
  arnet benchmark --configs=demo,demo:multi_scale --usage=.3,.1,.3,.3,0,0 --quick
  arnet benchmark --topology=v5e:1x1 --configs=activitynet --usage=half --usage=quarter
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ar_net_jax.cli.flags import (
    add_chunk_flags,
    add_classes_flag,
    add_method_flag,
    add_topology_flag,
    load_method,
    wanted_slice,
)
from ar_net_jax.errors import UserError

if TYPE_CHECKING:
    from ar_net_jax.topology import Slice


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
        help="impose shares or numbers of frames per choice on what decides; may be repeated",
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="of videos (default: 4 on a CPU, 32 elsewhere)"
    )
    parser.add_argument(
        "--num-frames", type=int, metavar="N", help="of a video (default: each config's)"
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
    add_chunk_flags(parser)
    parser.add_argument(
        "--split", default="test", help="that trained models are scored on (default: %(default)s)"
    )
    parser.add_argument(
        "--against-torch",
        action="store_true",
        help="time torchvision's network beside Uniform (needs the extra parity)",
    )
    parser.add_argument(
        "--output", default="arnet_benchmark", metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--quick", action="store_true", help="few calls: to see that it runs")
    parser.add_argument(
        "--suite", choices=("device",), help="measure all that a paper would ask of this device"
    )
    parser.add_argument(
        "--budget", default="8m", metavar="8m", help="time for --suite (default: %(default)s)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    add_topology_flag(
        parser, "time nothing, but compile routed inference for one such chip and print its bounds"
    )
    add_classes_flag(parser)
    add_method_flag(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.benchmarks.report import print_benchmark, write_benchmark
    from ar_net_jax.benchmarks.run import choose_settings, run_benchmark

    wanted = wanted_slice(flags)
    load_method(flags)
    if flags.suite:
        _measure_device(flags, overrides)
        return
    if flags.num_frames is not None and flags.num_frames < 1:
        raise UserError(f"--num-frames: must be at least 1, got {flags.num_frames}")
    if wanted is not None:
        _describe(flags, overrides, wanted)
        return
    settings = choose_settings(
        batch=flags.batch,
        repetitions=flags.repetitions,
        chunks=flags.chunks,
        plan=flags.plan,
        quick=flags.quick,
        progress=not flags.quiet,
    )
    found = run_benchmark(
        flags.configs,
        flags.checkpoints,
        settings,
        overrides=overrides,
        usages=flags.usage,
        num_frames=flags.num_frames,
        routing=flags.routing,
        split=flags.split,
        classes=flags.classes,
        against_torch=flags.against_torch,
    )
    print_benchmark(found)
    files = write_benchmark(Path(flags.output), found)
    print(f"results: {', '.join(f'{flags.output}/{name}' for name in files)}")


def _measure_device(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """The suite in place of single models."""
    chosen = ("checkpoints", "topology", "usage", "chunks", "batch", "num_frames", "repetitions")
    given = [name for name in (*chosen, "against_torch") if getattr(flags, name)]
    if given:
        raise UserError(
            "--suite=device: chooses models, usages, batches, chunks and rounds itself; leave out "
            + ", ".join(f"--{name.replace('_', '-')}" for name in given)
        )
    from ar_net_jax.benchmarks.suite.run import FILES, run_suite
    from ar_net_jax.benchmarks.suite.settings import choose_suite, read_budget
    from ar_net_jax.experiment import load_config

    budget = read_budget(flags.budget)
    settings = choose_suite(flags.configs, tuple(overrides), quick=flags.quick)
    load_config(settings.spec(), settings.overrides)
    folder = Path(flags.output)
    run_suite(settings, budget, folder)
    print((folder / FILES[1]).read_text())
    print(f"results: {', '.join(f'{flags.output}/{name}' for name in FILES)}")


def _describe(flags: argparse.Namespace, overrides: Sequence[str], wanted: "Slice") -> None:
    """Bounds in place of measurements."""
    if flags.checkpoints or flags.against_torch or flags.routing != "routed" or not flags.configs:
        raise UserError(
            "--topology: nothing runs, and routed inference is compiled; give --configs, and leave "
            "out --checkpoints, --against-torch and --routing"
        )
    if flags.batch is not None and flags.batch < 1:
        raise UserError(f"--batch: must be at least 1, got {flags.batch}")
    from ar_net_jax.benchmarks.described import FILE, describe_benchmark, write_described
    from ar_net_jax.benchmarks.run import BATCH_ELSEWHERE
    from ar_net_jax.reporting.topology import print_inference

    rows = describe_benchmark(
        flags.configs,
        wanted,
        overrides,
        usages=flags.usage,
        videos=flags.batch or BATCH_ELSEWHERE,
        num_frames=flags.num_frames,
        chunks=flags.chunks,
    )
    for row in rows:
        print_inference(row.spec, row.config.model.dtype, wanted, row.check)
    write_described(Path(flags.output), wanted, rows)
    print(f"figures: {flags.output}/{FILE}")
