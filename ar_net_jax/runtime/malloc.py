"""Settings of the C library's allocator, so that freed memory stays with the process.

On a CPU, XLA allocates the intermediate results of every call anew. By default glibc maps blocks of
that size into the process and unmaps them when they are freed, so that the kernel zeroes the same
pages again at every step: 10,000 page faults and a quarter of the time of a training step of the
demo on two cores.
"""

import ctypes
import os
import sys

# Parameters of mallopt(3), from <malloc.h>.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = -1
_PAD_BYTES = 1 << 28


def keep_freed_memory() -> bool:
    """Tells glibc's malloc to reuse freed memory instead of returning it to the kernel.

    The process then holds on to the most memory it ever needed. Settings in the user's environment
    (MALLOC_*, GLIBC_TUNABLES) take precedence.

    Returns:
        Whether malloc was told so; False with another C library, or where the user has settings.
    """
    own = [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]
    if not sys.platform.startswith("linux") or own:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_TOP_PAD: _PAD_BYTES}
    return all([mallopt(name, value) == 1 for name, value in settings.items()])
