"""Runs the device suite within its time; what was measured is on the disk after every step."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any, Literal

from ar_net_jax.benchmarks.machine import Machine, describe_machine, peak_memory
from ar_net_jax.benchmarks.suite.report import suite_markdown
from ar_net_jax.benchmarks.suite.settings import SuiteSettings
from ar_net_jax.benchmarks.suite.steps import Step, Suite
from ar_net_jax.errors import Preempted, first_line
from ar_net_jax.reporting.tables import plain_json
from ar_net_jax.runtime.storage import write_json, write_whole
from ar_net_jax.runtime.versions import package_versions

FILES = ("device.json", "device.md")
"""What is written to the output folder."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes:
        kind: of the step.
        title: of the step.
        status: `failed` steps leave the others alone; `no time` was left for the rest.
        seconds: that it took.
        reason: of a failure.
        rows: what was measured.
    """

    kind: str
    title: str
    status: Literal["done", "failed", "no time"]
    seconds: float = 0.0
    reason: str = ""
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def run_suite(settings: SuiteSettings, budget: float, folder: Path) -> list[Outcome]:
    """Takes the steps in order of importance, and begins none that would end too late.

    A step is taken to last as long as the longest of its kind so far; the first of a kind always
    begins while there is time.

    Args:
        settings: what is measured.
        budget: seconds.
        folder: for `device.json` and `device.md`, which are whole after every step.

    Returns:
        Of every step what became of it.

    Raises:
        UserError: the folder cannot be written.
    """
    started, machine = time.monotonic(), describe_machine()
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    longest: dict[str, float] = {}
    for step in Suite(settings, budget).steps():
        left = budget - (time.monotonic() - started)
        if left <= 0 or longest.get(step.kind, 0.0) > left:
            outcomes.append(Outcome(step.kind, step.title, "no time"))
        else:
            outcome = _take(step)
            longest[step.kind] = max(longest.get(step.kind, 0.0), outcome.seconds)
            outcomes.append(outcome)
            _tell(outcome, budget - (time.monotonic() - started))
        _write(folder, settings, budget, machine, outcomes)
    return outcomes


def _take(step: Step) -> Outcome:
    started = time.monotonic()
    try:
        rows = step.run()
    except Preempted:
        raise
    except Exception as error:  # Whatever a compiler or a driver raises.
        seconds = time.monotonic() - started
        reason = f"{type(error).__name__}: {first_line(error)}"
        return Outcome(step.kind, step.title, "failed", seconds, reason)
    return Outcome(step.kind, step.title, "done", time.monotonic() - started, rows=rows)


def _tell(outcome: Outcome, left: float) -> None:
    told = f"{outcome.kind}: {outcome.title}: {outcome.status} in {outcome.seconds:.0f} s"
    if outcome.reason:
        told += f" ({outcome.reason[:300]})"
    print(f"{told}; {max(left, 0):.0f} s left", file=sys.stderr, flush=True)


def _write(
    folder: Path,
    settings: SuiteSettings,
    budget: float,
    machine: Machine,
    outcomes: list[Outcome],
) -> None:
    document = plain_json(
        {
            "machine": dataclasses.asdict(machine),
            "versions": package_versions(),
            "peak_memory": dataclasses.asdict(peak_memory()),
            "settings": dataclasses.asdict(settings),
            "budget_seconds": budget,
            "steps": [dataclasses.asdict(outcome) for outcome in outcomes],
        }
    )
    write_json(folder / FILES[0], document)
    write_whole(folder / FILES[1], suite_markdown(document))
