"""The processes of a job: which they are, and how they join before anything is computed."""

import dataclasses
import os
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from ar_net_jax.errors import UserError
from ar_net_jax.runtime.barrier import wait_at_barrier

_LAUNCHERS = "a TPU slice, Slurm or Open MPI"
_TASK_COUNTS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")


@dataclasses.dataclass(frozen=True)
class Job:
    """A process's place in its job.

    Attributes:
        coordinator: host:port of process 0.
        num_processes: size of the job.
        process_id: rank of this process, from 0.
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
    """Finds this process's place in its job.

    What is not given is taken from the launcher: TPU metadata, Slurm or Open MPI.

    Args:
        coordinator: host:port of process 0.
        num_processes: size of the job; 1 makes this process a job by itself.
        process_id: rank of this process, from 0.
        timeout: seconds to wait until the launcher knows the address of process 0.

    Returns:
        The job, or None where this process is the only one.

    Raises:
        UserError: part of it is neither given nor known to the launcher, or the rank is impossible.
    """
    if num_processes == 1:
        return None
    given = (coordinator, num_processes, process_id)
    devices = None
    if None in given:
        coordinator, num_processes, process_id, devices = _ask_launcher(*given, timeout)
    found = (coordinator, num_processes, process_id)
    if num_processes == 1 or (given == (None, None, None) and None in found):
        return None
    names = ("--coordinator", "--num-processes", "--process-id")
    missing = [name for name, value in zip(names, found) if value is None]
    if coordinator is None or num_processes is None or process_id is None:
        raise UserError(
            f"{', '.join(missing)}: missing; give all three of {', '.join(names)}, or start the "
            f"processes through {_LAUNCHERS}, which tell them"
        )
    job = Job(coordinator, num_processes, process_id, devices)
    if not 0 <= job.process_id < job.num_processes:
        raise UserError(
            f"--process-id={job.process_id}: must lie in 0..{job.num_processes - 1} for "
            f"--num-processes={job.num_processes}"
        )
    return job


def _ask_launcher(
    coordinator: str | None, num_processes: int | None, process_id: int | None, timeout: int
) -> tuple[str | None, int | None, int | None, Sequence[int] | None]:
    """Fills in what the launcher knows: coordinator, number of processes, rank, local devices.

    The only private part of JAX in the package. `jax.distributed` has `initialize`,
    `is_initialized` and `shutdown` and nothing that says what `initialize` found, but the barrier
    has to know it beforehand.
    """
    try:
        from jax._src.clusters import ClusterEnv

        return ClusterEnv.auto_detect_unset_distributed_params(
            coordinator, num_processes, process_id, None, None, timeout
        )
    except (ImportError, AttributeError, TypeError) as error:
        # A JAX that has changed this. A single process still runs without it; one of several must
        # not take itself for a single one.
        tasks = [os.environ.get(name, "1") for name in _TASK_COUNTS]
        if any(count != "1" for count in tasks):
            raise UserError(
                f"JAX {jax.__version__} does not tell what the launcher says ({error}); give "
                "--coordinator, --num-processes and --process-id"
            ) from error
        return coordinator, num_processes, process_id, None


def join(job: Job, timeout: int = 300) -> None:
    """Joins the processes into one JAX runtime; to be called before any computation.

    CPU processes then reduce over gloo, GPUs over NCCL, TPUs over their own network.

    Args:
        job: from `find_job`.
        timeout: seconds to wait for the others.

    Raises:
        UserError: some did not arrive, or were given different jobs.
    """
    wait_at_barrier(job.coordinator, job.num_processes, job.process_id, timeout)
    jax.distributed.initialize(
        job.coordinator,
        job.num_processes,
        job.process_id,
        job.local_device_ids,
        # `find_job` has asked the launcher already.
        cluster_detection_method="deactivate",
        initialization_timeout=timeout,
    )


def is_first() -> bool:
    """Whether this is the process that writes logs, figures and models."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """A barrier within the joined job: returns once all have called this with the same name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def text_of_first(text: str) -> str:
    """What the first process gives, on all of them; to be called by all.

    Args:
        text: of this process, which only the first one's matters of.
    """
    if jax.process_count() == 1:
        return text
    given = np.frombuffer(text.encode(), np.uint8)
    # All must know how much is to come.
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(given))))
    padded = np.zeros(length, np.uint8)
    padded[: min(length, len(given))] = given[:length]
    received = np.asarray(multihost_utils.broadcast_one_to_all(padded))
    return received.astype(np.uint8).tobytes().decode()
