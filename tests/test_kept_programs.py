"""Jobs on a model that may lie anywhere keep their compiled programs in the user's cache."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import jax
from ar_net_jax.runtime.compilation import keep_for_the_user
keep_for_the_user()
print(jax.config.jax_compilation_cache_dir)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x + 1)(1.0)
"""


def _kept_in(cache: Path, **environment: str) -> str:
    """Where a process keeps its programs."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
    inherited |= {"ARNET_CACHE_DIR": str(cache), **environment}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.check_output(command, env=inherited, text=True, timeout=120).strip()


def test_programs_are_kept_beside_the_plans(tmp_path: Path) -> None:
    assert _kept_in(tmp_path) == str(tmp_path / "compiled")
    assert any((tmp_path / "compiled").iterdir())


def test_a_cache_that_the_user_chose_is_used(tmp_path: Path) -> None:
    own = str(tmp_path / "own")
    assert _kept_in(tmp_path / "cache", JAX_COMPILATION_CACHE_DIR=own) == own


def test_without_a_folder_that_can_be_written_none_are_kept(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    assert _kept_in(tmp_path / "cache") == "None"
