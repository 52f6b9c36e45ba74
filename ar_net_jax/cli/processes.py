"""Jobs of several processes: their flags, how they join, and how one that fails ends the others."""

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax

from ar_net_jax.errors import Preempted, UserError
from ar_net_jax.runtime.distributed import find_job, is_first, join, wait_for_all

Result = TypeVar("Result")


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that tell a process its place in the job."""
    group = parser.add_argument_group(
        "several processes",
        "TPU slices, Slurm and Open MPI tell them by themselves; otherwise give each process:",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where the first process listens")
    group.add_argument("--num_processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process_id", type=int, metavar="I", help="which one this is, from 0")
    group.add_argument(
        "--join_timeout",
        type=int,
        default=300,
        metavar="SECONDS",
        help="how long to wait for the others (default: %(default)s)",
    )


@contextlib.contextmanager
def joined(flags: argparse.Namespace) -> Iterator[None]:
    """Joins the job's other processes, if there are any, before anything is computed.

    A process that fails would wait for the others when it ends, and they for it in their next
    sum over all devices. So it tells what happened and leaves at once.
    """
    job = find_job(
        flags.coordinator, flags.num_processes, flags.process_id, timeout=flags.join_timeout
    )
    if job is None:
        yield
        return
    join(job, flags.join_timeout)
    try:
        yield
    except Preempted:
        raise
    except BaseException as error:
        _leave(f"arnet {flags.job}, process {job.process_id} of {job.num_processes}", error)


def _leave(who: str, error: BaseException) -> None:
    """Ends the process without waiting for the others."""
    status = 1
    if isinstance(error, UserError):
        print(f"{who}: {error}", file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt):
        print(f"{who}: stopped; the same command goes on from here", file=sys.stderr)
        status = 130
    else:
        traceback.print_exception(error)
        if isinstance(error, jax.errors.JaxRuntimeError):
            print(f"{who}: if another process failed before, see its output", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def first_process_first(work: Callable[[], Result], name: str) -> Result:
    """Runs something on the first process and then on the others, which find it done.

    Args:
        work: what to run.
        name: tells this from other such calls.
    """
    if is_first():
        result = work()
        wait_for_all(name)
        return result
    wait_for_all(name)
    return work()
