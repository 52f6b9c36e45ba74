"""Jobs of several processes: how one that fails ends the others, and who goes first."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import jax

from ar_net_jax.errors import Preempted, StoppedByUser, UserError
from ar_net_jax.runtime.distributed import Job, is_first, join, wait_for_all

Result = TypeVar("Result")


@contextlib.contextmanager
def joined(job: Job | None, title: str, timeout: int = 300) -> Iterator[None]:
    """Joins the job's other processes, if there are any, before anything is computed.

    A process that fails would wait for the others when it ends, and they for it in their next
    sum over all devices. So it prints the error and exits at once.

    Args:
        job: from `find_job`; None where this process is the only one.
        title: of the job, for messages.
        timeout: seconds to wait for the others.

    Raises:
        UserError: some did not arrive, or were given different jobs.
    """
    if job is None:
        yield
        return
    join(job, timeout)
    try:
        yield
    except Preempted:
        raise
    except BaseException as error:
        _leave(f"{title}, process {job.process_id} of {job.num_processes}", error)


def _leave(who: str, error: BaseException) -> NoReturn:
    """Ends the process without waiting for the others."""
    status = 1
    if isinstance(error, UserError):
        print(f"{who}: {error}", file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt):
        print(f"{who}: stopped; the same command goes on from here", file=sys.stderr)
        status = StoppedByUser.EXIT_STATUS
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
        work: what to run, such as the preparation of data in a shared folder.
        name: of the barrier; it must differ from that of other calls.

    Returns:
        What `work` returned on this process.
    """
    if is_first():
        result = work()
        wait_for_all(name)
        return result
    wait_for_all(name)
    return work()
