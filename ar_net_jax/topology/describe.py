"""Devices that are not there, to compile for: TPU slices, by the compiler that libtpu brings."""

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from ar_net_jax.errors import UserError, first_line
from ar_net_jax.runtime.extras import import_extra
from ar_net_jax.topology.chips import Slice

# The compiler would ask the cloud's metadata server where it is, which elsewhere is a wait for
# nothing. What it is told instead changes nothing in programs for a slice that is described. The
# last lets several processes compile side by side: none of them opens a device.
_WITHOUT_HARDWARE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def prepare_environment() -> None:
    """Sets what compiling without hardware needs, where the user has not; before JAX starts.

    JAX itself runs on the CPU, which only traces the program.
    """
    for name, value in _WITHOUT_HARDWARE.items():
        os.environ.setdefault(name, value)
    if not jax.config.values["jax_platforms"]:
        jax.config.update("jax_platforms", "cpu")


def describe_devices(wanted: Slice, *, alone: bool = False) -> Mesh:
    """A mesh of devices that programs can be compiled for, but not run on.

    Args:
        wanted: the slice.
        alone: one chip of it only.

    Returns:
        A mesh with the single axis `data`, as of `runtime.mesh.make_mesh`.

    Raises:
        UserError: the compiler is not installed, or cannot describe this slice.
    """
    prepare_environment()
    import_extra("libtpu", f"--topology={wanted.name}", "tpu")
    described = wanted.host if alone or wanted.size == 1 else wanted
    devices = np.array(_describe(described).devices)
    if described.size != devices.size:
        raise UserError(
            f"--topology={wanted.name}: the compiler sees {devices.size} devices in "
            f"{described.size} chips; it cannot be described without hardware"
        )
    if described is not wanted:
        devices = devices[:1]
    return Mesh(devices, ("data",), axis_types=(AxisType.Auto,))


def _describe(wanted: Slice) -> Any:
    from jax.experimental import topologies

    options = {"chip_config_name": wanted.chip.config} if wanted.chip.config else {}
    try:
        return topologies.get_topology_desc(wanted.name, "tpu", **options)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"--topology={wanted.name}: the compiler cannot describe it ({first_line(error)})"
        ) from error
