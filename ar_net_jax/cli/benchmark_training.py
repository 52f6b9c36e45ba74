r"""Measures a training step of every stage, and how fast the input pipeline feeds it.

Weights and frames are random. All steps are timed in turn, round after round, with the device
waited for; each right after one of its own kind, as in training. A stage under a frozen policy is
measured in its masked and in its routed form, under an imposed usage (see `arnet benchmark
--help`). The pipeline decodes, crops and batches drawn JPEG frames of 340 x 256.

Examples:
  arnet benchmark-training --config=activitynet --config.data.batch_size=2 \
      --config.model.dtype=float32 --against-torch
  arnet benchmark-training --config=activitynet --peak-tflops=989 --json=training.json
"""

import argparse
from collections.abc import Sequence

from ar_net_jax.cli.flags import add_method_flag, load_method
from ar_net_jax.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "--config", required=True, metavar="NAME[:variant]", help="a shipped config, or a file"
    )
    parser.add_argument(
        "--usage",
        default="half",
        metavar="half|quarter|A,B,...",
        help="shares or numbers of frames per action under a frozen policy (default: %(default)s)",
    )
    parser.add_argument(
        "--repetitions", type=int, default=5, metavar="N", help="rounds (default: %(default)s)"
    )
    parser.add_argument(
        "--peak-tflops",
        type=float,
        metavar="X",
        help="of all devices together, to print the share of it that the steps reach",
    )
    parser.add_argument(
        "--against-torch",
        action="store_true",
        help="time torchvision's networks in the same rounds (needs the extra parity)",
    )
    parser.add_argument(
        "--only",
        choices=("steps", "pipeline"),
        help="measure only the one (default: both, one after the other)",
    )
    parser.add_argument("--json", metavar="FILE", help="where to write the figures as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_method_flag(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.benchmarks.training import benchmark_training
    from ar_net_jax.benchmarks.training_report import print_training_benchmark
    from ar_net_jax.experiment import load_config
    from ar_net_jax.runtime.storage import check_output, write_json

    load_method(flags)
    if flags.repetitions < 1:
        raise UserError(f"--repetitions: must be at least 1, got {flags.repetitions}")
    check_output("--json", flags.json)
    found = benchmark_training(
        load_config(flags.config, overrides),
        flags.usage,
        flags.repetitions,
        steps=flags.only != "pipeline",
        pipeline=flags.only != "steps",
        peak_tflops=flags.peak_tflops,
        against_torch=flags.against_torch,
        progress=not flags.quiet,
    )
    print_training_benchmark(found)
    if flags.json:
        write_json(flags.json, found.to_json())
        print(f"figures: {flags.json}")
