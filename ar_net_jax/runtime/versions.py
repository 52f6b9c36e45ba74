"""Versions of what a result depends on."""

import platform
from importlib import metadata

_PACKAGES = (
    "ar_net_jax jax jaxlib flax optax orbax-checkpoint grain tensorflow-datasets array_record "
    "ml_collections clu numpy av pillow matplotlib"
).split()


def package_versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries a result depends on."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
