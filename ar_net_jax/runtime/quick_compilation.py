"""XLA flags for work of which compilation is a large part.

Nothing is imported that would start JAX, which reads the flags once.
"""

import importlib.metadata
import os


def _quick_flags() -> str:
    """The flags, as in XLA_FLAGS, for the release of jaxlib that is installed."""
    flags = "--xla_backend_optimization_level=0"
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        # The older way to write loops compiles in half the time. Later releases have one way only.
        flags += " --xla_cpu_use_fusion_emitters=false"
    return flags


def compile_quickly() -> None:
    """For work that is mostly compilation: nothing is optimised, and programs run slower.

    Sets XLA's flags for this process and those it starts, unless the user has set some. Call before
    JAX's backend is there.
    """
    os.environ.setdefault("XLA_FLAGS", _quick_flags())


def compile_sooner() -> None:
    """For work of minutes: programs that run as fast, compiled in two thirds of the time.

    Seen on CPU with training steps of slim networks. Sets the flags as `compile_quickly` does.
    """
    flags = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
    os.environ.setdefault("XLA_FLAGS", flags)
