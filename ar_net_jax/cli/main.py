"""The `arnet` command: flags in, a job called, nothing else."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from ar_net_jax.errors import Preempted, UserError
from ar_net_jax.runtime.malloc import keep_freed_memory

JOBS = {
    "demo": "make a small data set, train AR-Net and the baselines on it, compare them",
    "prepare": "check and decode videos, and store them for training",
    "train": "train a model, or go on with a training that stopped",
    "evaluate": "measure accuracy and computation of a trained model on a split",
    "benchmark": "measure speed, latency and memory beside Uniform, in one run",
    "benchmark_training": "measure a training step of every stage, and the input pipeline",
    "convert": "import weights that others trained, export models",
    "predict": "classify videos, and show what the policy made of each frame",
    "costs": "count what a model computes, per action and per video",
    "export": "write a model as one StableHLO file that runs without this package",
}


def build_parser(job: str | None = None) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        job: whose flags it is to know, one of `JOBS`. Of the others it knows the names alone, so
            that their modules need not be imported.
    """
    parser = argparse.ArgumentParser(
        prog="arnet",
        description="AR-Net in JAX: adaptive frame resolution for efficient action recognition.",
        epilog="`arnet JOB --help` explains a job. Overrides such as --config.data.batch_size=8 "
        "change single fields of a config.",
    )
    jobs = parser.add_subparsers(dest="job", metavar="JOB", required=True)
    for name, summary in JOBS.items():
        own = jobs.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == job:
            module = importlib.import_module(f"ar_net_jax.cli.{name}")
            own.description = module.__doc__
            module.add_flags(own)
            own.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `arnet`; exits with 1 and one line on bad input, 75 on preemption, 130 on Ctrl-C."""
    # The libraries below log through C++; their chatter would break into the progress bars.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    keep_freed_memory()
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(next((word for word in arguments if not word.startswith("-")), None))
    flags, rest = parser.parse_known_args(arguments)
    overrides = [argument for argument in rest if argument.startswith("--config.")]
    unknown = [argument for argument in rest if argument not in overrides]
    if unknown:
        parser.error(f"unknown argument {unknown[0]} (see arnet {flags.job} --help)")
    try:
        flags.run(flags, overrides)
    except UserError as error:
        print(f"arnet {flags.job}: {error}", file=sys.stderr)
        sys.exit(1)
    except Preempted as notice:
        print(f"arnet {flags.job}: {notice}", file=sys.stderr)
        sys.exit(Preempted.EXIT_STATUS)
    except KeyboardInterrupt:
        print(f"\narnet {flags.job}: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
