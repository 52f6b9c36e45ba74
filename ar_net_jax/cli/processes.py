"""Flags of jobs that run as several processes."""

import argparse
import contextlib


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that tell a process its place in the job."""
    group = parser.add_argument_group(
        "several processes",
        "TPU slices, Slurm and Open MPI tell them by themselves; otherwise give each process:",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where the first process listens")
    group.add_argument("--num-processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process-id", type=int, metavar="I", help="which one this is, from 0")
    group.add_argument(
        "--join-timeout",
        type=int,
        default=300,
        metavar="SECONDS",
        help="how long to wait for the others (default: %(default)s)",
    )


def joined(flags: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """Joins the processes that `add_process_flags`'s flags or the launcher tell of."""
    from ar_net_jax.runtime import processes
    from ar_net_jax.runtime.distributed import find_job

    job = find_job(
        flags.coordinator, flags.num_processes, flags.process_id, timeout=flags.join_timeout
    )
    return processes.joined(job, f"arnet {flags.job}", flags.join_timeout)
