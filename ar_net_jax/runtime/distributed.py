"""The processes of a job: who they are, and how they join before anything is computed."""

import dataclasses
import os
from collections.abc import Sequence

import jax
from jax.experimental import multihost_utils

from ar_net_jax.errors import UserError
from ar_net_jax.runtime.barrier import call_roll

_LAUNCHERS = "a TPU slice, Slurm or Open MPI"
_TASK_COUNTS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")


@dataclasses.dataclass(frozen=True)
class Job:
    """A process's place in its job.

    Attributes:
        coordinator: host:port of the first process.
        num_processes: how many there are.
        process_id: which one this is.
        local_device_ids: the devices of the machine that belong to this process; None for all.
    """

    coordinator: str
    num_processes: int
    process_id: int
    local_device_ids: Sequence[int] | None = None


def find_job(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: int = 300,
) -> Job | None:
    """Finds out which processes belong together.

    What is not given is taken from the launcher: TPU metadata, Slurm or Open MPI.

    Args:
        coordinator: host:port of the first process.
        num_processes: how many there are; 1 makes this one a job of its own.
        process_id: which one this is.
        timeout: seconds to wait for the first process's name to be known.

    Returns:
        The job, or None where this process is alone.

    Raises:
        UserError: given and found do not make a whole.
    """
    if num_processes == 1:
        return None
    given = (coordinator, num_processes, process_id)
    found = (*given, None) if None not in given else _ask_launcher(*given, timeout)
    if found[1] == 1 or (given == (None, None, None) and None in found[:3]):
        return None
    names = ("--coordinator", "--num_processes", "--process_id")
    missing = [name for name, value in zip(names, found) if value is None]
    if missing:
        raise UserError(
            f"{', '.join(missing)}: missing; give all three of {', '.join(names)}, or start the "
            f"processes through {_LAUNCHERS}, which tell them"
        )
    job = Job(*found)
    if not 0 <= job.process_id < job.num_processes:
        raise UserError(
            f"--process_id={job.process_id}: must lie in 0..{job.num_processes - 1} for "
            f"--num_processes={job.num_processes}"
        )
    return job


def _ask_launcher(
    coordinator: str | None, num_processes: int | None, process_id: int | None, timeout: int
) -> tuple:
    try:
        # What jax.distributed.initialize() asks itself; needed beforehand for the roll call.
        from jax._src.clusters import ClusterEnv

        return ClusterEnv.auto_detect_unset_distributed_params(
            coordinator, num_processes, process_id, None, None, timeout
        )
    except (ImportError, AttributeError, TypeError) as error:
        # It is no public part of JAX. Without it a lone process still runs; one of several must
        # not take itself for a lone one.
        tasks = [os.environ.get(name, "1") for name in _TASK_COUNTS]
        if any(count != "1" for count in tasks):
            raise UserError(
                f"JAX {jax.__version__} does not tell what the launcher says ({error}); give "
                "--coordinator, --num_processes and --process_id"
            ) from error
        return coordinator, num_processes, process_id, None


def join(job: Job, timeout: int = 300) -> None:
    """Joins the processes into one JAX runtime; to be called before any computation.

    CPU processes then reduce over gloo, GPUs over NCCL, TPUs over their own network.

    Args:
        job: from `find_job`.
        timeout: seconds to wait for the others.

    Raises:
        UserError: some did not come, or do not agree with each other.
    """
    call_roll(job.coordinator, job.num_processes, job.process_id, timeout)
    jax.distributed.initialize(
        job.coordinator,
        job.num_processes,
        job.process_id,
        job.local_device_ids,
        # All is known by now.
        cluster_detection_method="deactivate",
        initialization_timeout=timeout,
    )


def is_first() -> bool:
    """Whether this is the process that writes logs, figures and models."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns once all processes have called this with the same name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
