"""What a measurement ran on: processor, devices, memory that was used at most."""

import os
import resource
from pathlib import Path
from typing import Any

import jax


def describe_machine() -> dict[str, Any]:
    """Processor and devices.

    Returns:
        `cpu` (its model), `cores` that this process may use, `platform`, `device_kind` and
        `devices` as JAX sees them, `xla_flags`, and `matmul_precision` where it is not JAX's own.
    """
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "platform": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "matmul_precision": jax.config.jax_default_matmul_precision,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def peak_memory() -> dict[str, Any]:
    """The most memory in use at once since the process began.

    Returns:
        `bytes`, and `source`: of the busiest device where the platform tells that, else of the
        process.
    """
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [entry["peak_bytes_in_use"] for entry in stats if "peak_bytes_in_use" in entry]
    if peaks:
        return {"bytes": max(peaks), "source": "device, peak_bytes_in_use"}
    # Linux counts this one in KiB.
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"bytes": 1024 * kilobytes, "source": "process, resident set"}
