"""Work of a compiled program on one chip: matrix operations, bytes to and from HBM, collectives.

Each loop's body counts as often as it runs, which XLA's own analysis leaves out. Bytes are those of
arrays in HBM with the padding of their layout, read and written by each operation that stands by
itself; what a fusion keeps to itself, and what lies in the chip's own memory, moves nothing. Of an
array that is only sliced, the slices count.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping

from ar_net_jax.topology.fusions import bytes_read, bytes_written
from ar_net_jax.topology.hlo import HBM, VMEM, Instruction, Shape, Text, parse_hlo
from ar_net_jax.topology.matrix import matrix_flops
from ar_net_jax.topology.trips import Scalars, Value, count_trips

TripsOf = Callable[[str], float | None]
"""From where a loop stands in the Python program to its trips; None where that is not known."""

_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# They name or pass on what is there, and move nothing; the second halves of what is under way too.
_FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "optimization-barrier", "domain"),
    *("async-update", "async-done", "while", "conditional", "call"),
)


@dataclasses.dataclass(frozen=True)
class Work:
    """What a chip has to do.

    Attributes:
        flops: of convolutions and matrix products, two for each multiply-accumulate; taps on
            padding and zeros between pixels do not count.
        bytes: read from and written to HBM.
        on_chip: the same of the chip's own memory, where the compiler keeps what has room there.
            XLA's own "bytes accessed" is both together.
        sent: bytes that it sends to other chips, at least.
        collectives: how many by kind.
    """

    flops: float = 0.0
    bytes: float = 0.0
    on_chip: float = 0.0
    sent: float = 0.0
    collectives: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __add__(self, other: "Work") -> "Work":
        kinds = dict.fromkeys((*self.collectives, *other.collectives))
        return Work(
            self.flops + other.flops,
            self.bytes + other.bytes,
            self.on_chip + other.on_chip,
            self.sent + other.sent,
            {k: self.collectives.get(k, 0) + other.collectives.get(k, 0) for k in kinds},
        )

    def __mul__(self, times: float) -> "Work":
        counts = {kind: times * count for kind, count in self.collectives.items()}
        return Work(
            times * self.flops,
            times * self.bytes,
            times * self.on_chip,
            times * self.sent,
            counts,
        )


@dataclasses.dataclass(frozen=True)
class LoopCost:
    """A loop of a program.

    Attributes:
        place: where it stands in the Python program, such as `jit(step)/while`.
        trips: how often its body runs, each time that the loop is met.
        known: whether that follows from the program, or was given; else it was taken for once.
        work: of one trip.
    """

    place: str
    trips: float
    known: bool
    work: Work


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program needs on each chip.

    Attributes:
        work: of one run.
        loops: of it, in order, those within others included.
    """

    work: Work
    loops: tuple[LoopCost, ...]


def count_work(text: str, trips_of: TripsOf | None = None) -> Program:
    """Counts a compiled program's work on one of its chips.

    Args:
        text: as `jax.stages.Compiled.as_text` gives it.
        trips_of: for loops whose number of trips depends on data; without it, or where it gives
            None, those count once.
    """
    module = parse_hlo(text)
    counter = _Counter(module, trips_of or (lambda place: None))
    entry = module[module.entry]
    return Program(counter.work_of(module.entry, (None,) * len(entry.parameters)), counter.loops())


class _Counter:
    """Walks over a program's computations."""

    def __init__(self, module: Text, trips_of: TripsOf) -> None:
        self._module, self._trips_of = module, trips_of
        self._loops: list[LoopCost] = []
        self._flops = functools.cache(self._flops_of)

    def loops(self) -> tuple[LoopCost, ...]:
        return tuple(self._loops)

    def work_of(self, name: str, arguments: tuple[Value, ...]) -> Work:
        """Of one run of a computation whose scalars among the arguments are known."""
        computation = self._module[name]
        scalars = Scalars(self._module, computation, arguments)
        total = Work()
        for each in computation:
            if each.opcode == "while":
                total += self._loop(each, scalars[each.operands[0]])
            elif each.opcode == "conditional":
                total += self._largest(each)
            elif each.opcode == "call":
                (called,) = each.called("to_apply")
                total += self.work_of(called, tuple(scalars[n] for n in each.operands))
            else:
                total += self._single(name, each)
        return total

    def _loop(self, loop: Instruction, start: Value) -> Work:
        trips: float | None = count_trips(self._module, loop, start)
        if trips is None:
            trips = self._trips_of(loop.op_name)
        known, trips = trips is not None, 1 if trips is None else trips
        (condition,), (body,) = loop.called("condition"), loop.called("body")
        place = len(self._loops)
        once = self.work_of(condition, (start,)) + self.work_of(body, (start,))
        self._loops.insert(place, LoopCost(loop.op_name, trips, known, once))
        return once * trips

    def _largest(self, each: Instruction) -> Work:
        """The branch that moves most, as which one runs depends on data."""
        branches = each.called("branch_computations") or (
            *each.called("true_computation"),
            *each.called("false_computation"),
        )
        works = [self.work_of(name, ()) for name in branches]
        return max(works, key=lambda work: (work.bytes, work.flops), default=Work())

    def _single(self, name: str, each: Instruction) -> Work:
        opcode = each.opcode
        if opcode in _FREE or opcode.endswith("-done"):
            return Work()
        flops = self._flops(name, each.name)
        kind = opcode.removesuffix("-start")
        sent, counts = 0.0, {}
        if kind in _COLLECTIVES:
            sent, counts = _sent(kind, each, self._operands(name, each)), {kind: 1.0}
        moved = self._bytes(name, each, HBM), self._bytes(name, each, VMEM)
        return Work(flops, *moved, sent, counts)

    def _bytes(self, name: str, each: Instruction, memory: int) -> float:
        """To and from a memory."""
        read = bytes_read(self._module, self._module[name], each, memory)
        return read + bytes_written(self._module, self._module[name], each, memory)

    def _operands(self, name: str, each: Instruction) -> Shape:
        computation = self._module[name]
        return tuple(array for other in each.operands for array in computation[other].shape)

    def _flops_of(self, name: str, instruction: str) -> float:
        """Of an instruction, with what it has fused."""
        computation = self._module[name]
        each = computation[instruction]
        if each.opcode in ("convolution", "dot"):
            shapes = [computation[other].shape[0] for other in each.operands[:2]]
            return matrix_flops(each, *shapes)
        total = 0.0
        for called in (*each.called("calls"), *each.called("async_computation")):
            total += sum(self._flops(called, inner.name) for inner in self._module[called])
        return total


def _sent(kind: str, each: Instruction, operands: Shape) -> float:
    """Bytes that a chip sends at least, whatever the way, in a group of n chips."""
    held = sum(array.size for array in operands)
    if kind in ("collective-permute", "collective-broadcast"):
        return held
    group = _group_size(each)
    if kind == "all-gather":
        # Every chip's part has to come to all the others.
        return (group - 1) * held
    share = (group - 1) / group
    # A sum goes through all chips, and back to them.
    return (2 if kind == "all-reduce" else 1) * share * held


def _group_size(each: Instruction) -> int:
    """Chips that take part together.

    Groups are listed, `{{0,1},{2,3}}`; or counted, `[2,2]<=[4]` for two groups of two; or the axes
    of a mesh, `mesh['x'=2,'y'=2] {'y'}`.
    """
    groups = each.attributes.partition("replica_groups=")[2]
    if found := re.match(r"\[\d+,(\d+)\]", groups):
        return int(found.group(1))
    if found := re.match(r"\{\{([\d,]*)\}", groups):
        return found.group(1).count(",") + 1
    if found := re.match(r"@?mesh\[([^\]]*)\] \{([^}]*)\}", groups):
        sizes = dict(re.findall(r"'([^']*)'=(\d+)", found.group(1)))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']*)'", found.group(2)))
    raise ValueError(f"cannot read the groups of '{each.name}': {groups[:100]}")
