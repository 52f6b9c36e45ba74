"""The least time that a chip can take for a program's work, and what sets it."""

import dataclasses

from ar_net_jax.topology.chips import Chip
from ar_net_jax.topology.traffic import Work


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Least seconds for each of the things that go on side by side.

    Attributes:
        arithmetic: of the matrix units.
        memory: to move bytes to and from HBM.
        network: to send bytes to other chips.
    """

    arithmetic: float
    memory: float
    network: float

    @classmethod
    def of(cls, work: Work, chip: Chip) -> "Roofline":
        """That of a chip's share of the work.

        Args:
            work: of one chip.
            chip: what it can do.
        """
        return cls(work.flops / chip.flops, work.bytes / chip.bandwidth, work.sent / chip.network)

    @property
    def seconds(self) -> float:
        """The bound: no run is faster."""
        return max(self.arithmetic, self.memory, self.network)

    @property
    def binds(self) -> str:
        """What sets the bound."""
        return max(("arithmetic", "memory", "network"), key=lambda name: getattr(self, name))
