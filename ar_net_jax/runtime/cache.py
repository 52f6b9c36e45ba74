"""Where results are kept for a user's later runs on the same machine."""

import os
from pathlib import Path

import platformdirs

VARIABLE = "ARNET_CACHE_DIR"
"""Of the environment: a folder that is used in place of the system's usual one."""


def cache_dir() -> Path:
    """The folder, which need not exist: `~/.cache/ar_net_jax` on Linux, unless told otherwise."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_cache_dir("ar_net_jax"))
