"""What `arnet tune` measured, on the terminal."""

import rich.box
import rich.console
import rich.table

from ar_net_jax.benchmarks.tune import Tuning
from ar_net_jax.reporting.console import standard_output


def print_tuning(found: Tuning, console: rich.console.Console | None = None) -> None:
    """Prints a row for each size of chunk, and the form of execution that follows.

    Args:
        found: what was measured.
        console: where to; the terminal by default.
    """
    console = console or standard_output()
    plan = found.plan
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, title=plan.key.device)
    for column in ("network", "frames at once", "ms", "ms a frame", "in the loop"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for network in plan.networks:
        for size, seconds in network.seconds:
            taken = size in network.chunks
            table.add_row(
                network.name,
                str(size),
                f"{1e3 * seconds:.3g}",
                f"{1e3 * seconds / size:.3g}",
                "yes" if taken else "",
                style="bold" if taken else None,
            )
    console.print(table)
    for videos, forms in found.form_seconds.items():
        told = ", ".join(f"{form} {1e3 * seconds:.3g} ms" for form, seconds in forms.items())
        console.print(f"{videos} video{'s' * (videos > 1)}: {told}")
    if not found.form_seconds:
        console.print("no time was left to compare the forms; give more --seconds")
    if found.left_out:
        console.print(f"no time was left for {len(found.left_out)} sizes; give more --seconds")
    console.print(f"form: {plan.form}; measured in {found.seconds:.0f} s")
