"""JAX's cache of compiled programs, so that a restart does not compile again."""

from pathlib import Path

import jax


def keep_compiled_programs(directory: Path) -> None:
    """Keeps compiled programs in a folder, and uses those it finds there."""
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
