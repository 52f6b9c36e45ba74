"""What an installation can do, as a table."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import rich.box
import rich.console
import rich.table

from ar_net_jax.reporting.console import standard_output
from ar_net_jax.runtime.diagnosis import Devices, Diagnosis, describe_python

# Those that people ask for first.
_SHOWN = ("ar_net_jax", "jax", "jaxlib", "flax", "numpy", "av")


def diagnosis_json(found: Diagnosis) -> dict[str, Any]:
    """As JSON holds it; each extra with the command that installs it."""
    extras = {e.name: {"missing": list(e.missing), "remedy": e.remedy} for e in found.extras}
    return {**dataclasses.asdict(found), "extras": extras}


def print_diagnosis(found: Diagnosis, console: rich.console.Console | None = None) -> None:
    """Prints a row for each thing that was looked at, and how to get what is missing.

    Args:
        found: from `diagnose`.
        console: where to; the terminal by default.
    """
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("to get what is missing", overflow="fold")
    for what, value, remedy in _rows(found):
        table.add_row(what, value, remedy, style="yellow" if remedy else None)
    (console or standard_output()).print(table, markup=False)


def _rows(found: Diagnosis) -> Iterator[tuple[str, str, str]]:
    yield "python", describe_python(), ""
    for name in _SHOWN:
        yield name, found.versions[name], ""
    yield _devices(found.devices)
    if found.codecs_error:
        yield "codecs", found.codecs_error, "pip install --force-reinstall av"
    else:
        present = [name for name, decoder in found.codecs.items() if decoder]
        absent = [name for name, decoder in found.codecs.items() if not decoder]
        lacking = f"none for {', '.join(absent)}: pip install -U av" if absent else ""
        yield "codecs", ", ".join(present), lacking
    for extra in found.extras:
        state = f"lacks {', '.join(extra.missing)}" if extra.missing else "complete"
        yield f"extra {extra.name}", state, extra.remedy
    if not found.extras:
        yield "extras", "not known: the package is run from a folder", "pip install -e ."


def _devices(devices: Devices) -> tuple[str, str, str]:
    if devices.error:
        remedy = devices.advice or "JAX_PLATFORMS=cpu computes without an accelerator"
        return "devices", devices.error, remedy
    kinds = dict.fromkeys(devices.kinds)
    counted = [f"{devices.kinds.count(kind)} x {kind}" for kind in kinds]
    return "devices", f"{devices.platform}: {', '.join(counted)}", devices.advice
