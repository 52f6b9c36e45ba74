"""JAX's cache of compiled programs, so that a restart does not compile again."""

import os
from collections import Counter

import jax
from etils import epath

_PREFIX = "/jax/compilation_cache/"
_counts: Counter[str] = Counter()


def keep_compiled_programs(directory: epath.PathLike) -> None:
    """Keeps compiled programs in a folder, local or remote, and uses those it finds there.

    A cache that the user has chosen (JAX_COMPILATION_CACHE_DIR) is left in place.
    """
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.fspath(directory))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if not _counts:
        _counts["listening"] = 1
        jax.monitoring.register_event_listener(_count)


def _count(event: str, **_: str | int) -> None:
    if event.startswith(_PREFIX):
        _counts[event.removeprefix(_PREFIX)] += 1


def describe_programs() -> str:
    """How many of the programs that this process needed so far were found compiled."""
    found, asked = _counts["cache_hits"], _counts["compile_requests_use_cache"]
    directory = jax.config.jax_compilation_cache_dir
    if not directory:
        return "compiled programs are not kept"
    return f"{found} of {asked} compiled programs came from {directory}"
