"""Processes of their own for tests of several devices: XLA makes them once, when it starts."""

import os


def with_devices(count: int) -> dict[str, str]:
    """This process's environment, with so many CPU devices."""
    devices = f"--xla_force_host_platform_device_count={count}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {devices}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
