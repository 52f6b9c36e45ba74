"""Settings for all tests: CPU unless the caller chose a platform, few and unhurried examples.

Most of the suite's time is compilation. So programs are compiled without optimisation, and those
that several tests share once.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# What the user keeps, such as plans of inference, is neither read nor written, by processes that
# tests start neither.
os.environ["ARNET_CACHE_DIR"] = tempfile.mkdtemp(prefix="arnet_cache_")

import hypothesis
import jax
import jaxtyping
import pytest
from jax.experimental.compilation_cache import compilation_cache

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


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """A cache of compiled programs that lives as long as the run."""
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        compilation_cache.reset_cache()
        yield
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> Iterator[None]:
    """Deletes the folder that stands in for the user's cache."""
    yield
    shutil.rmtree(os.environ["ARNET_CACHE_DIR"])
