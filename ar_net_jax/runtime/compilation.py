"""JAX's persistent compilation cache, so that a restart does not compile again."""

import os
import sys
from collections import Counter

import jax
from etils import epath

from ar_net_jax.runtime.cache import cache_dir

_PREFIX = "/jax/compilation_cache/"
_counts: Counter[str] = Counter()


def keep_compiled_programs(directory: epath.PathLike) -> None:
    """Keeps compiled programs in a folder, local or in a bucket, and uses those found there.

    A cache that the user has chosen (JAX_COMPILATION_CACHE_DIR) is left in place.
    """
    if not _cache_directory():
        _configure("jax_compilation_cache_dir", os.fspath(directory))
        _configure("jax_persistent_cache_min_compile_time_secs", 0.5)
    if not _counts:
        _counts["listening"] = 1
        jax.monitoring.register_event_listener(_count)


def keep_for_the_user() -> None:
    """Keeps compiled programs in the user's cache, for jobs whose model may lie anywhere.

    Without a cache that can be written nothing is kept.
    """
    folder = cache_dir() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        keep_compiled_programs(folder)


def _cache_directory() -> str | None:
    return jax.config.values["jax_compilation_cache_dir"]


def _configure(name: str, value: str | float) -> None:
    jax.config.update(name, value)


def _count(event: str, **_: str | int) -> None:
    if event.startswith(_PREFIX):
        _counts[event.removeprefix(_PREFIX)] += 1


def tell_compiling(what: str) -> None:
    """Says at a terminal that a program is being compiled, which may take half a minute.

    Args:
        what: is compiled.
    """
    if sys.stderr.isatty():
        print(f"compiling {what}", file=sys.stderr, flush=True)


def describe_programs() -> str:
    """How many of the programs that this process needed so far came from the cache."""
    found, asked = _counts["cache_hits"], _counts["compile_requests_use_cache"]
    directory = _cache_directory()
    if not directory:
        return "compiled programs are not kept"
    if not asked:
        return "no program had to be compiled"
    return f"{found} of {asked} compiled programs came from {directory}"
