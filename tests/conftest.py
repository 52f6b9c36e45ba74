"""Settings for all tests: CPU unless the caller chose a platform, few and unhurried examples.

Most of the suite's time is compilation. So programs are compiled without optimisation, and those
that several tests share once, whichever process they run in.
"""

import os
import shutil
import signal
import tempfile

from ar_net_jax.runtime.quick_compilation import compile_quickly

os.environ.setdefault("JAX_PLATFORMS", "cpu")
compile_quickly()
# What the user keeps, such as plans of inference, is neither read nor written, by processes that
# tests start neither.
os.environ["ARNET_CACHE_DIR"] = tempfile.mkdtemp(prefix="arnet_cache_")
# A cache of compiled programs that lives as long as the run. Its maker hands it on to all others.
FIRST = "PYTEST_XDIST_WORKER" not in os.environ
if FIRST:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="arnet_compiled_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    # With a bound, never reached, JAX locks the cache, so that no one reads what is half written.
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**35)

import hypothesis  # noqa: E402
import jaxtyping  # noqa: E402

# Shapes in annotations are checked in what works on arrays. Elsewhere there are none, and to wrap
# all functions takes seconds at the start of every test process. `data.pipeline` is left out
# because its worker processes cannot be sent functions that are wrapped.
SHAPED = (
    "data.augment",
    "data.embedded",
    "data.jpeg",
    "data.resize",
    "data.sampling",
    "data.video",
    "evaluation",
    "inference",
    "losses",
    "methods",
    "modules",
    "ops",
)
jaxtyping.install_import_hook([f"ar_net_jax.{room}" for room in SHAPED], "shapes.check")

# A shell's background jobs ignore Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("quick", deadline=None, max_examples=25)
hypothesis.settings.load_profile("quick")


def pytest_unconfigure() -> None:
    """Deletes the folders that only this run wanted; what processes share, when they have ended."""
    shutil.rmtree(os.environ["ARNET_CACHE_DIR"], ignore_errors=True)
    if FIRST:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
