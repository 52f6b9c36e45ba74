"""Freed memory stays with the process: each test in a process of its own, as the setting stays."""

import platform
import subprocess
import sys

import pytest

# Touches 64 MB again and again, as XLA does step after step, and prints how many pages the kernel
# had to give for that.
PROGRAM = """
import resource, numpy as np
from ar_net_jax.runtime.malloc import keep_freed_memory
{call}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(1 << 24, np.float32)
before = faults()
for _ in range(8):
    np.ones(1 << 24, np.float32)
print(kept, faults() - before)
"""


def _run(call: str, **environment: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=call)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", **environment},
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_freed_memory_is_used_again_without_the_kernel() -> None:
    kept, faults = _run("kept = keep_freed_memory()")
    assert kept == "True"
    _, usual = _run("kept = False")
    # Eight times 33 pages where the kernel has huge ones of 2 MB to give, which differs from run to
    # run; of the small ones it would be 130,000.
    assert faults < 100 < 250 < usual


def test_the_users_own_settings_stay_in_force() -> None:
    assert _run("kept = keep_freed_memory()", MALLOC_ARENA_MAX="2")[0] == "False"
