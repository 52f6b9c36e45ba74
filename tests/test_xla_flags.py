"""The command line sets flags of XLA for CPUs; an import sets none, and users keep their own."""

import os
import subprocess
import sys

import pytest

from ar_net_jax.cli.xla_flags import cpu_flags

PRODUCTS_ALONE = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"


@pytest.mark.parametrize(
    "installed, given, expected",
    [
        ({"jaxlib": "0.10.2"}, None, PRODUCTS_ALONE),
        ({"jaxlib": "0.12.0.1"}, None, PRODUCTS_ALONE),
        # Others may not know the flag.
        ({"jaxlib": "0.10.1"}, None, None),
        ({"jaxlib": "0.99"}, None, None),
        ({}, None, None),
        # A user's setting stays, be it empty.
        ({"jaxlib": "0.10.2"}, "--xla_dump_to=there", None),
        ({"jaxlib": "0.10.2"}, "", None),
        # Compilers for other platforms read the variable too.
        ({"jaxlib": "0.10.2", "libtpu": "0.0.40"}, None, None),
        ({"jaxlib": "0.10.2", "jax-cuda12-plugin": "0.10.2"}, None, None),
    ],
)
def test_flags_by_version_platform_and_setting(
    installed: dict[str, str], given: str | None, expected: str | None
) -> None:
    assert cpu_flags(installed, given) == expected


def _printed(program: str, **variables: str) -> str:
    """What a program prints that starts with no XLA_FLAGS but those given."""
    inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**inherited, **variables},
    )
    return done.stdout.strip()


COMMAND_LINE = """
import os
from ar_net_jax.cli import main, xla_flags
xla_flags._installed = lambda: {"jaxlib": "0.10.2"}
try:
    main.main(["--version"])
except SystemExit:
    print(os.environ.get("XLA_FLAGS"))
"""


def test_the_command_line_sets_them() -> None:
    assert _printed(COMMAND_LINE).splitlines()[-1] == PRODUCTS_ALONE
    own = "--xla_dump_to=there"
    assert _printed(COMMAND_LINE, XLA_FLAGS=own).splitlines()[-1] == own


def test_an_import_sets_nothing() -> None:
    program = """
import os, ar_net_jax, ar_net_jax.cli.main
ar_net_jax.load
print(os.environ.get("XLA_FLAGS"))
"""
    assert _printed(program) == "None"
