"""Prints what this installation can do: devices, versions, codecs, and optional packages.

What is missing stands beside the command that gets it. A backend of JAX that does not start is a
row of the table, and the exit status is 0 all the same.

Examples:
  arnet doctor
  arnet doctor --json=doctor.json
"""

import argparse
from collections.abc import Sequence

from ar_net_jax.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument("--json", metavar="FILE", help="where to write the same as JSON")


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.reporting.diagnosis import diagnosis_json, print_diagnosis
    from ar_net_jax.runtime.diagnosis import diagnose
    from ar_net_jax.runtime.storage import check_output, write_json

    if overrides:
        raise UserError(f"{overrides[0]}: this job reads no config; leave this out")
    check_output("--json", flags.json)
    found = diagnose()
    print_diagnosis(found)
    if flags.json:
        write_json(flags.json, diagnosis_json(found))
        print(f"as JSON: {flags.json}")
