"""The machine that a process runs on, as people name it."""

import os
from pathlib import Path

import jax


def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def cpu_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux alone has it.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device_name() -> str:
    """What decides how fast a program is here: the kind of device; of a CPU, which and its cores.

    JAX calls every processor `cpu`, and folders of users are often shared between machines.
    """
    kind: str = jax.devices()[0].device_kind
    if jax.default_backend() != "cpu":
        return kind
    return f"{cpu_model()}, {cpu_cores()} cores"
