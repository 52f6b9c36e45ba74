"""Flags of XLA's CPU compiler, which the command line sets before JAX starts.

By default jaxlib runs matrix products and convolutions by the library YNNPACK. Its products are the
fastest that there are here; but larger convolutions take less time by Eigen, which XLA takes where
the library is to run products alone.
"""

import contextlib
import os
from collections.abc import Mapping
from importlib import metadata

_PRODUCTS_ALONE = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
# A flag that XLA does not know ends the process, so only versions that were tested get any.
_BY_JAXLIB = {"0.10.2": _PRODUCTS_ALONE, "0.12.0.1": _PRODUCTS_ALONE}
# They bring compilers of their own that read the same variable, and may know other flags.
_OTHER_PLATFORMS = ("libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin")


def cpu_flags(installed: Mapping[str, str], given: str | None) -> str | None:
    """What `XLA_FLAGS` is to be set to; None where it is to stay as it is.

    Args:
        installed: versions by name of what is installed of JAX and its platforms.
        given: the variable as it is; None where it is not set. A user who has set it, be it to
            nothing, decides alone.

    >>> cpu_flags({"jaxlib": "0.10.2"}, given="--xla_dump_to=there") is None
    True
    """
    if given is not None or any(name in installed for name in _OTHER_PLATFORMS):
        return None
    return _BY_JAXLIB.get(installed.get("jaxlib", ""))


def set_cpu_flags() -> None:
    """Sets `XLA_FLAGS` for this process and those that it starts, as `cpu_flags` says.

    To be called before JAX compiles anything.
    """
    flags = cpu_flags(_installed(), os.environ.get("XLA_FLAGS"))
    if flags is not None:
        os.environ["XLA_FLAGS"] = flags


def _installed() -> dict[str, str]:
    """Versions of those packages that `cpu_flags` asks for."""
    found = {}
    for name in ("jaxlib", *_OTHER_PLATFORMS):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
