"""Peaks of the chips that can be compiled for, each with its source, and the names of slices."""

import dataclasses
import math
import re

from ar_net_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can do at most.

    Attributes:
        name: in a topology, such as `v5e`.
        axes: numbers in a topology's name: chips along each axis of the network.
        flops: floating-point operations a second of the matrix units in bfloat16, two for each
            multiply-accumulate. Float32 at JAX's default precision runs at the same rate.
        memory: bytes of HBM.
        bandwidth: bytes a second between chip and HBM.
        network: bytes a second that a chip can send over all its links to other chips at once.
        source: where the figures stand.
        config: the compiler's name for both cores of a chip as one device; empty where that is the
            only way.
    """

    name: str
    axes: int
    flops: float
    memory: float
    bandwidth: float
    network: float
    source: str
    config: str = ""


# The sources give the network's bandwidth in both directions together; half of it is sent.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            "v4",
            axes=3,
            flops=275e12,
            memory=32 * 2**30,
            bandwidth=1200e9,
            # Six links of 50 GB/s: table 4 of https://arxiv.org/abs/2304.01433.
            network=300e9,
            source="https://docs.cloud.google.com/tpu/docs/v4",
            config="megacore",
        ),
        Chip(
            "v5e",
            axes=2,
            flops=197e12,
            memory=16 * 2**30,
            bandwidth=819e9,
            network=200e9,
            source="https://docs.cloud.google.com/tpu/docs/v5e",
        ),
        Chip(
            "v5p",
            axes=3,
            flops=459e12,
            memory=95 * 2**30,
            bandwidth=2765e9,
            network=600e9,
            source="https://docs.cloud.google.com/tpu/docs/v5p-training",
        ),
        Chip(
            "v6e",
            axes=2,
            flops=918e12,
            memory=32 * 2**30,
            bandwidth=1638e9,
            network=400e9,
            source="https://docs.cloud.google.com/tpu/docs/v6e",
        ),
    )
}
# The compiler describes whole hosts, of 2 x 2 chips.
_HOST = 2


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips joined by their network.

    Attributes:
        chip: the kind of chip.
        shape: how many of them along each axis.
    """

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """As users and compiler write it, such as `v5e:4x4`."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def size(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    @property
    def host(self) -> "Slice":
        """The smallest slice that can be described: one host's."""
        return Slice(self.chip, (_HOST, _HOST, 1)[: self.chip.axes])


def parse_slice(text: str) -> Slice:
    """Reads the name of a slice.

    Args:
        text: a chip and how many of them along each axis. `1x1` is one chip.

    Raises:
        UserError: no such chip, or a shape that it is not built in.

    >>> parse_slice("v5e:4x4").size
    16
    """
    name, _, shape = text.partition(":")
    if name not in CHIPS or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
        raise UserError(f"--topology={text}: {_known()}")
    chip, numbers = CHIPS[name], tuple(int(number) for number in shape.split("x"))
    if len(numbers) != chip.axes:
        raise UserError(
            f"--topology={text}: {name} has {chip.axes} axes, as in "
            f"{name}:{'x'.join('2' * chip.axes)}"
        )
    wholes = all(number % _HOST == 0 for number in numbers[:2])
    if math.prod(numbers) > 1 and not wholes:
        raise UserError(
            f"--topology={text}: the first two numbers must be multiples of {_HOST}, the chips of "
            "a host, or all of them 1"
        )
    return Slice(chip, numbers)


def _known() -> str:
    examples = ", ".join(f"{chip.name}:{'x'.join('A' * chip.axes)}" for chip in CHIPS.values())
    return f"not a known topology; give {examples}, with numbers of chips for A, such as v5e:4x4"
