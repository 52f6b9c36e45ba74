"""The `arnet` command: flags in, a job called, nothing else."""

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence

import ar_net_jax
from ar_net_jax.errors import Preempted, StoppedByUser, UserError, first_line
from ar_net_jax.runtime.malloc import keep_freed_memory

JOBS = {
    "demo": "make a small data set, train AR-Net and the baselines on it, compare them",
    "compare": "train methods on equal terms, score and time them, write tables",
    "prepare": "check and decode videos, and store them for training",
    "train": "train a model, or go on with a training that stopped",
    "evaluate": "measure accuracy and computation of a trained model on a split",
    "benchmark": "measure speed, latency and memory beside Uniform, in one run",
    "benchmark-training": "measure a training step of every stage, and the input pipeline",
    "tune": "measure how inference runs best on this device, and keep that as a plan",
    "convert": "import weights that others trained, export models",
    "predict": "classify videos, and show what the policy made of each frame",
    "watch": "classify a camera, a stream or a file, frame by frame",
    "costs": "count what a model computes, per action and per video",
    "push": "publish a trained model on the Hugging Face hub, with a card",
    "export": "write a model as one StableHLO file that runs without this package",
    "doctor": "print devices, versions, codecs, what is missing and how to get it",
}


_EPILOG = """\
`arnet help JOB` explains a job. Overrides such as --config.data.batch_size=8 change single fields
of a config.

exit status:
  0    all is done
  1    bad input, or a file that could not be read or written; one line says which
  2    a flag or a job that does not exist
  75   told to stop (SIGTERM); what was under way is saved, and the same command goes on from there
  130  stopped by Ctrl-C; a training has saved its present step, as on SIGTERM"""


def build_parser(job: str | None = None) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        job: whose flags it is to know, one of `JOBS`. Of the others it knows the names alone, so
            that their modules need not be imported.
    """
    parser = argparse.ArgumentParser(
        prog="arnet",
        description="AR-Net in JAX: adaptive frame resolution for efficient action recognition.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"arnet {ar_net_jax.__version__}")
    jobs = parser.add_subparsers(dest="job", metavar="JOB", required=True)
    for name, summary in JOBS.items():
        own = jobs.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == job:
            module = importlib.import_module(f"ar_net_jax.cli.{name.replace('-', '_')}")
            own.description = module.__doc__
            module.add_flags(own)
            own.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `arnet`; exits as `arnet --help` tells."""
    # The libraries below log through C++; their chatter would break into the progress bars.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    keep_freed_memory()
    arguments = _usual_spelling(sys.argv[1:] if argv is None else argv)
    job = next((word for word in arguments if not word.startswith("-")), None)
    parser = build_parser(job)
    if job is not None and job not in JOBS:
        close = difflib.get_close_matches(job, JOBS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"the jobs are {', '.join(JOBS)}"
        parser.error(f"no job '{job}'; {hint}")
    flags, rest = parser.parse_known_args(arguments)
    overrides = [argument for argument in rest if argument.startswith("--config.")]
    unknown = [argument for argument in rest if argument not in overrides]
    if unknown:
        parser.error(f"unknown argument {unknown[0]} (see arnet help {flags.job})")
    _run(flags, overrides)


def _usual_spelling(argv: Sequence[str]) -> list[str]:
    """The command line with dashes in the names of flags, and `help JOB` as `JOB --help`."""
    found = []
    for word in argv:
        name, equals, value = word.partition("=")
        if name.startswith("--") and not name.startswith("--config."):
            word = f"{name.replace('_', '-')}{equals}{value}"
        found.append(word)
    if found and found[0] == "help":
        found = [*found[1:2], "--help"]
    if found and found[0].replace("_", "-") in JOBS:
        found[0] = found[0].replace("_", "-")
    return found


def _run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs a job; what ends it says one line and gives the exit status."""
    status = 1
    try:
        flags.run(flags, overrides)
        sys.stdout.flush()
        return
    except UserError as error:
        told = str(error)
    except Preempted as notice:
        told, status = str(notice), notice.EXIT_STATUS
    except KeyboardInterrupt as stop:
        told = str(stop) or "stopped; the same command goes on from here"
        status = StoppedByUser.EXIT_STATUS
    except BrokenPipeError:
        # Who read the output, such as `head`, has enough; Python would complain at its end too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(status)
    except UnicodeDecodeError as error:
        told = f"a text file that should be UTF-8 is not ({first_line(error)})"
    except OSError as error:
        if error.errno is None:
            raise  # Not of the system: a library's own.
        place = f"{error.filename}: " if error.filename else ""
        told = f"{place}{error.strerror or first_line(error)}"
    print(f"arnet {flags.job}: {told}", file=sys.stderr)
    sys.exit(status)
