"""What a measurement ran on: processor, devices, memory that was used at most."""

import os
import resource
from dataclasses import dataclass

import jax

from ar_net_jax.runtime.machine import cpu_cores, cpu_model


@dataclass(frozen=True)
class Machine:
    """Processor and devices.

    Attributes:
        cpu: its model.
        cores: that this process may use.
        platform: as JAX names it.
        device_kind: of its devices.
        devices: their number.
        xla_flags: of the environment.
        matmul_precision: where it is not JAX's own.
    """

    cpu: str
    cores: int
    platform: str
    device_kind: str
    devices: int
    xla_flags: str
    matmul_precision: str | None


@dataclass(frozen=True)
class PeakMemory:
    """The most memory in use at once: in `bytes`, and of what, by which `source`."""

    bytes: int
    source: str


def describe_machine() -> Machine:
    """The machine that this process runs on."""
    return Machine(
        cpu=cpu_model(),
        cores=cpu_cores(),
        platform=jax.default_backend(),
        device_kind=jax.devices()[0].device_kind,
        devices=jax.device_count(),
        xla_flags=os.environ.get("XLA_FLAGS", ""),
        matmul_precision=jax.config.jax_default_matmul_precision,  # type: ignore[attr-defined]
    )


def peak_memory() -> PeakMemory:
    """Since the process began: of the busiest device where the platform tells, else of itself."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [entry["peak_bytes_in_use"] for entry in stats if "peak_bytes_in_use" in entry]
    if peaks:
        return PeakMemory(max(peaks), "device, peak_bytes_in_use")
    # Linux counts this one in KiB.
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return PeakMemory(1024 * kilobytes, "process, resident set")
