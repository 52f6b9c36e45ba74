"""What importing costs: help and the package itself leave the heavy libraries alone."""

import importlib
import pkgutil
import subprocess
import sys

import ar_net_jax
from ar_net_jax.cli.main import JOBS

HEAVY = ("jax", "flax", "optax", "orbax", "matplotlib", "tensorflow_datasets", "grain", "av")

_LOADED = f"""
print("loaded:", *sorted({{name.partition(".")[0] for name in sys.modules}} & set({HEAVY!r})))
"""
_HELP = """
import contextlib, io, sys
from ar_net_jax.cli.main import main
for job in sys.argv[1:]:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main([job, "--help"] if job else ["--help"])
"""


def _run(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_help_of_all_jobs_imports_nothing_heavy() -> None:
    assert _run(_HELP + _LOADED, "", *JOBS).strip() == "loaded:"


def test_importing_the_package_imports_nothing_heavy() -> None:
    printed = _run("import sys, ar_net_jax\nprint(ar_net_jax.__version__)" + _LOADED)
    assert printed.splitlines() == [ar_net_jax.__version__, "loaded:"]


def test_public_names_are_imported_when_they_are_asked_for() -> None:
    printed = _run("import sys\nfrom ar_net_jax import *\nprint(load, Model, Config)" + _LOADED)
    assert "jax" in printed and "matplotlib" not in printed


def test_every_public_name_is_there() -> None:
    for module in pkgutil.walk_packages(ar_net_jax.__path__, "ar_net_jax."):
        if module.name != "ar_net_jax.__main__":
            found = importlib.import_module(module.name)
            missing = [n for n in getattr(found, "__all__", ()) if not hasattr(found, n)]
            assert not missing, (module.name, missing)
    assert all(hasattr(ar_net_jax, name) for name in ar_net_jax.__all__)
    assert set(ar_net_jax.__all__) <= set(dir(ar_net_jax))
    assert not hasattr(ar_net_jax, "nothing")
