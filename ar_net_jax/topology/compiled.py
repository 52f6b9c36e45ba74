"""A program compiled for chips that are not at hand: what it needs of each of them."""

import dataclasses
import re
import time
from collections.abc import Sequence
from typing import Any

import jax

from ar_net_jax.errors import UserError, first_line
from ar_net_jax.topology.chips import Chip
from ar_net_jax.topology.roofline import Roofline
from ar_net_jax.topology.traffic import LoopCost, TripsOf, Work, count_work

# As of jax, and as of compilers since libtpu 0.0.50: "E1000: CompileTimeHbmOom: ".
_ERROR_CODES = re.compile(r"^RESOURCE_EXHAUSTED: (E\d+: \w+: )?")


@dataclasses.dataclass(frozen=True)
class ChipCheck:
    """What a program needs of each chip.

    Attributes:
        work: of one run.
        roofline: the least time for it.
        loops: of the program.
        arguments: bytes of what it takes, with the padding of their layout.
        besides: bytes of its results, temporary values and instructions.
        limit: bytes that the chip has.
        seconds: that compiling took.
    """

    work: Work
    roofline: Roofline
    loops: Sequence[LoopCost]
    arguments: int
    besides: int
    limit: float
    seconds: float

    @property
    def needed(self) -> int:
        """Bytes in all."""
        return self.arguments + self.besides

    @property
    def counted_once(self) -> int:
        """How many loops run as often as the data says, and count as one trip."""
        return sum(not loop.known for loop in self.loops)


@dataclasses.dataclass(frozen=True)
class CompiledProgram:
    """A program compiled for described devices.

    Attributes:
        text: of its instructions.
        memory: what it needs, as `jax.stages.Compiled.memory_analysis` tells it.
        seconds: that compiling took.
    """

    text: str
    memory: Any
    seconds: float

    def check(self, chip: Chip, trips_of: TripsOf) -> ChipCheck:
        """Counts what it does on each chip.

        Args:
            chip: that it is compiled for.
            trips_of: how often loops run whose end depends on data.
        """
        program, memory = count_work(self.text, trips_of), self.memory
        besides = memory.output_size_in_bytes - memory.alias_size_in_bytes
        besides += memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
        return ChipCheck(
            program.work,
            Roofline.of(program.work, chip),
            program.loops,
            arguments=memory.argument_size_in_bytes,
            besides=besides,
            limit=chip.memory,
            seconds=self.seconds,
        )


def compile_described(lowered: jax.stages.Lowered, *, what: str, remedy: str) -> CompiledProgram:
    """Compiles a program whose arguments lie on described devices.

    Args:
        lowered: the program.
        what: it is, the start of the error's sentence.
        remedy: what to do where the chips have not enough memory.

    Raises:
        UserError: they have not; the compiler says how much is missing.
    """
    started = time.monotonic()
    try:
        compiled: Any = lowered.compile()  # Text and analysis are there for every TPU.
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        reason = _ERROR_CODES.sub("", first_line(error))
        raise UserError(f"{what} does not fit a chip ({reason.rstrip('.')}); {remedy}") from error
    seconds = time.monotonic() - started
    return CompiledProgram(compiled.as_text(), compiled.memory_analysis(), seconds)
