"""What programs need of chips that are not at hand, on the terminal."""

from collections.abc import Sequence

import rich.box
import rich.table

from ar_net_jax.experiment import Config
from ar_net_jax.inference.described import InferenceCheck
from ar_net_jax.reporting.console import standard_output
from ar_net_jax.topology import Chip, ChipCheck, Slice
from ar_net_jax.training.dry_run import DescribedStage

_NOTE = (
    "Of each chip, one run of the program. GiB: needed, of those that it has. TFLOP: two for each "
    "multiply-accumulate of convolutions and matrix products. GB: moved to and from HBM; on chip: "
    "to and from the chip's own memory, which is so fast that it sets no bound here. ms: the least "
    "time for arithmetic, memory and network, the largest of them being the bound: no run is "
    "faster, and most are slower. The body of a loop counts as often as it runs."
)
_CHUNKS_NOTE = (
    "The least time of a frame, by how many frames its network computes at once; runs: how many "
    "chunks of that size a batch needs."
)


def print_programs(title: str, chip: Chip, rows: Sequence[tuple[str, ChipCheck, float]]) -> None:
    """Prints a row for each program: memory, work, bounds, collectives, time to compile.

    Args:
        title: of the table.
        chip: that it was compiled for.
        rows: name, check, and bytes that a chip needs in all.
    """
    table = rich.table.Table(
        title=title, caption=_NOTE, caption_justify="left", box=rich.box.SIMPLE
    )
    table.add_column("program", no_wrap=True)
    columns = (
        "GiB",
        "TFLOP",
        "GB",
        "on chip",
        "arithmetic",
        "memory",
        "network",
        "bound by",
        "collectives",
    )
    for column in (*columns, "MB sent", "compiled"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, check, needed in rows:
        roofline, work = check.roofline, check.work
        times = (roofline.arithmetic, roofline.memory, roofline.network)
        table.add_row(
            name,
            f"{needed / 2**30:.3g} of {check.limit / 2**30:.3g}",
            f"{work.flops / 1e12:.3g}",
            f"{work.bytes / 1e9:.3g}",
            f"{work.on_chip / 1e9:.3g}",
            *(f"{1e3 * seconds:.3g} ms" for seconds in times),
            roofline.binds,
            f"{sum(work.collectives.values()):.0f}",
            f"{work.sent / 1e6:.3g}",
            f"{check.seconds:.0f} s",
        )
    console = standard_output()
    console.print(table)
    for name, check, _ in rows:
        kinds = ", ".join(f"{count:.0f} {kind}" for kind, count in check.work.collectives.items())
        if kinds:
            console.print(f"{name}: {kinds}")
        if check.counted_once:
            console.print(
                f"{name}: {check.counted_once} loops run as often as the data says; they count as "
                "one trip each"
            )
    console.print(f"Peaks of {chip.name}: {_peaks(chip)}, from {chip.source}", style="dim")


def print_stages(config: Config, wanted: Slice, stages: Sequence[DescribedStage]) -> None:
    """Prints a row for each stage of a training.

    Args:
        config: the run.
        wanted: the chips that it was compiled for.
        stages: of it.
    """
    parts = config.optimizer.micro_batches
    title = (
        f"{config.data.batch_size} videos x {config.data.num_frames} frames in {parts} "
        f"part{'s' * (parts > 1)}, {config.model.dtype}, remat={config.model.remat}, on "
        f"{wanted.name}, {wanted.size} chip{'s' * (wanted.size > 1)}"
    )
    print_programs(title, wanted.chip, [(each.name, each.chip, each.needed) for each in stages])


def stage_line(stage: DescribedStage) -> str:
    """One stage in a line, for while the others compile."""
    check = stage.chip
    return (
        f"compiled in {check.seconds:.0f} s: needs {stage.needed / 2**30:.3g} of "
        f"{stage.limit / 2**30:.3g} GiB a chip, moves {check.work.bytes / 1e9:.3g} GB, takes at "
        f"least {1e3 * check.roofline.seconds:.3g} ms, bound by {check.roofline.binds}"
    )


def print_inference(name: str, dtype: str, wanted: Slice, found: InferenceCheck) -> None:
    """Prints what routed inference needs of a chip, and each network's bound by size of chunk.

    Args:
        name: of the config.
        dtype: of the backbones.
        wanted: a slice with that kind of chip.
        found: for one chip.
    """
    title = (
        f"{name}: routed inference of {found.videos} videos x {found.num_frames} frames, {dtype}, "
        f"on one {wanted.chip.name} chip"
    )
    print_programs(title, wanted.chip, [(found.title, found.chip, found.chip.needed)])
    table = rich.table.Table(caption=_CHUNKS_NOTE, caption_justify="left", box=rich.box.SIMPLE)
    table.add_column("network", no_wrap=True)
    for column in ("frames", "runs", "GFLOP/f", "MB/f", "on chip", "us/f", "bound by"):
        table.add_column(column, justify="right", no_wrap=True)
    for bound in found.chunks:
        table.add_row(
            bound.network,
            str(bound.size),
            f"{bound.trips:.0f}",
            f"{bound.work.flops / bound.size / 1e9:.3g}",
            f"{bound.work.bytes / bound.size / 1e6:.3g}",
            f"{bound.work.on_chip / bound.size / 1e6:.3g}",
            f"{1e6 * bound.roofline.seconds / bound.size:.3g}",
            bound.roofline.binds,
        )
    console = standard_output()
    if found.chunks:
        console.print(table)
    for line in saving_lines(found):
        console.print(line)


def saving_lines(found: InferenceCheck) -> list[str]:
    """What to expect of the usage, in sentences."""
    lines = []
    if len(found.usage) > 1:
        shares = ", ".join(f"{share:.3g} {name}" for name, share in found.usage.items() if share)
        lines.append(f"usage, in shares of frames: {shares}")
    if found.time_ratio is not None and len(found.usage) > 1:
        line = (
            f"bound {found.time_ratio:.3f} of the largest network's on every frame, at "
            f"{found.gflops_ratio:.3f} of its GFLOPs"
        )
        if found.expected_saving is not None:
            line += f": at best {found.expected_saving:.2f} of the saving is realised"
        lines.append(line)
    return lines


def _peaks(chip: Chip) -> str:
    return (
        f"{chip.flops / 1e12:.0f} TFLOP/s in bfloat16, {chip.bandwidth / 1e9:.0f} GB/s of HBM, "
        f"{chip.network / 1e9:.0f} GB/s to other chips"
    )
