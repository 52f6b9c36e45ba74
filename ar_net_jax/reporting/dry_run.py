"""What a dry run found, on the terminal."""

from collections.abc import Sequence

import jax
import rich.box
import rich.console
import rich.table

from ar_net_jax.experiment import Config
from ar_net_jax.reporting.console import standard_output
from ar_net_jax.training.dry_run import StageCheck

_NOTE = (
    "Memory of each device in GiB. state: parameters, statistics, momentum, and the copy of the "
    "best epoch; batches: the present one and those on their way; step: what the step needs "
    "besides. TFLOPs of one step on all devices: two for each multiply-accumulate of convolutions "
    "and matrix products; recomputed ones and those with zeros count too, and the routed form "
    "counts as if every frame had been chosen for every network. In brackets XLA's count for one "
    "device, with elementwise work, without zeros, and the body of a loop once."
)


def print_checks(config: Config, checks: Sequence[StageCheck]) -> None:
    """Prints a row for each stage: memory, whether it fits, FLOPs, and the time of compilation.

    Args:
        config: the run.
        checks: from `dry_run`, for the devices of this process.
    """
    device, count = jax.devices()[0], jax.device_count()
    parts = config.optimizer.micro_batches
    table = rich.table.Table(
        title=f"{config.data.batch_size} videos x {config.data.num_frames} frames in {parts} "
        f"part{'s' * (parts > 1)}, {config.model.dtype}, on {count} x {device.device_kind} "
        f"with {checks[0].limit / 2**30:.3g} GiB",
        caption=_NOTE,
        caption_justify="left",
        box=rich.box.SIMPLE,
    )
    table.add_column("stage", no_wrap=True)
    columns = ("state", "batches", "step", "in all", "fits", "TFLOPs (XLA)", "compiled")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for check in checks:
        sizes = (check.state, check.batches, check.step, check.needed)
        table.add_row(
            check.name,
            *(f"{size / 2**30:.3g}" for size in sizes),
            "yes" if check.fits else "no",
            f"{check.flops / 1e12:.3g} ({check.xla_flops / 1e12:.3g})",
            f"{check.seconds:.0f} s",
        )
    standard_output().print(table)
