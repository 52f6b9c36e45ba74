"""Reads the text of a compiled program: computations, instructions, shapes with their layouts."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_DIGITS = re.compile(r"\d+")
_SHAPE = re.compile(r"([a-z][a-z0-9]*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r"\(([\d,*]+)\)")
_NAME = re.compile(r"%([\w.\-]+)")
_OPCODE = re.compile(r"\s*([a-z][a-z0-9\-]*)\(")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_OP_NAME = re.compile(r'op_name="([^"]*)"')

HBM, VMEM = 0, 1
"""Memories, by the number in a layout's S(n): the large one, and that on the chip itself."""


@dataclasses.dataclass(frozen=True)
class Array:
    """An array as it lies in memory.

    Attributes:
        dtype: such as `bf16`.
        dims: its sizes.
        order: its dimensions from the fastest to the slowest.
        tiles: outermost first; sizes are rounded up to whole tiles.
        space: number of the memory that it lies in.
    """

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...] = ()
    tiles: tuple[tuple[int, ...], ...] = ()
    space: int = HBM

    @property
    def size(self) -> int:
        """Bytes, padding included."""
        return math.prod(_padded(self)) * _bits(self.dtype) // 8


Shape = tuple[Array, ...]
"""The arrays of a result, a tuple's flattened."""


@dataclasses.dataclass(frozen=True, eq=False)
class Instruction:
    """One operation of a computation.

    Attributes:
        name: unique in its computation.
        opcode: such as `fusion`.
        shape: of the result.
        parts: of a tuple as result, the shapes of its elements; else the shape alone.
        operands: names of what it takes.
        argument: what stands in its brackets: a constant's value, a parameter's number.
        attributes: what stands behind them.
    """

    name: str
    opcode: str
    shape: Shape
    parts: tuple[Shape, ...]
    operands: tuple[str, ...]
    argument: str
    attributes: str

    def called(self, key: str) -> tuple[str, ...]:
        """Names of the computations in an attribute such as `body`."""
        found = re.search(rf"\b{key}=(\{{[^}}]*\}}|%[\w.\-]+)", self.attributes)
        return tuple(_NAME.findall(found.group(1))) if found else ()

    def field(self, key: str) -> str:
        """The text of an attribute, without its braces; empty where it has none."""
        found = re.search(rf"\b{key}=(?:\{{([^}}]*)\}}|([^\s,]+))", self.attributes)
        return (found.group(1) or found.group(2) or "") if found else ""

    @property
    def op_name(self) -> str:
        """Where in the Python program it comes from, such as `jit(step)/while/body/add`."""
        found = _OP_NAME.search(self.attributes)
        return found.group(1) if found else ""


@dataclasses.dataclass(frozen=True, eq=False)
class Computation:
    """Instructions that run one after another.

    Attributes:
        name: unique in its program.
        instructions: by name, in order.
        root: name of the one whose result is the computation's.
    """

    name: str
    instructions: dict[str, Instruction]
    root: str

    def __getitem__(self, name: str) -> Instruction:
        return self.instructions[name]

    def __iter__(self) -> Iterator[Instruction]:
        return iter(self.instructions.values())

    @functools.cached_property
    def parameters(self) -> tuple[Instruction, ...]:
        """Those that stand for its arguments, in their order."""
        found = [each for each in self if each.opcode == "parameter"]
        return tuple(sorted(found, key=lambda each: int(each.argument)))

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """By name, the instructions that take a result."""
        found: dict[str, list[Instruction]] = {}
        for each in self:
            for name in dict.fromkeys(each.operands):
                found.setdefault(name, []).append(each)
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Text:
    """A compiled program.

    Attributes:
        computations: by name.
        entry: name of the one where it begins.
    """

    computations: dict[str, Computation]
    entry: str

    def __getitem__(self, name: str) -> Computation:
        return self.computations[name]


def parse_hlo(text: str) -> Text:
    """Reads a program as `jax.stages.Compiled.as_text` gives it.

    Args:
        text: of one module.

    Raises:
        ValueError: it has no entry.
    """
    computations, entry = {}, ""
    name, root, found = "", "", dict[str, Instruction]()
    for line in text.splitlines():
        if header := _HEADER.match(line):
            name, root, found = header.group(2), "", {}
            entry = name if header.group(1) else entry
        elif line.startswith("}") and name:
            computations[name] = Computation(name, found, root)
            name = ""
        elif name and " = " in line:
            instruction = _parse_instruction(line)
            found[instruction.name] = instruction
            if line.lstrip().startswith("ROOT "):
                root = instruction.name
    if not entry:
        raise ValueError("the text holds no compiled program: there is no ENTRY")
    return Text(computations, entry)


def _parse_instruction(line: str) -> Instruction:
    left, _, rest = line.strip().removeprefix("ROOT ").partition(" = ")
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape = rest[:end]
    opcode = _OPCODE.match(rest, end)
    if opcode is None:
        raise ValueError(f"cannot read the instruction '{line.strip()[:200]}'")
    closing = _closing(rest, opcode.end() - 1)
    argument = rest[opcode.end() : closing]
    parts = tuple(map(_shape, _split(shape[1:-1]))) if shape.startswith("(") else (_shape(shape),)
    return Instruction(
        left.lstrip("%"),
        opcode.group(1),
        tuple(array for part in parts for array in part),
        parts,
        tuple(_NAME.findall(argument)),
        argument,
        rest[closing + 1 :],
    )


def _closing(text: str, start: int) -> int:
    """Place of the bracket that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if not depth:
            return place
    raise ValueError(f"a bracket is not closed in '{text[start : start + 200]}'")


def _split(text: str) -> list[str]:
    """Parts between the commas that stand in no brackets."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]] if text.strip() else []


@functools.lru_cache(maxsize=100_000)
def _shape(text: str) -> Shape:
    return tuple(_array(*match.groups()) for match in _SHAPE.finditer(text))


def _array(dtype: str, dims: str, layout: str | None) -> Array:
    order, _, rest = (layout or "").partition(":")
    space = re.search(r"S\((\d+)\)", rest)
    tiling = re.match(r"T((?:\([\d,*]+\))+)", rest)
    tiles = tuple(
        tuple(1 if size == "*" else int(size) for size in tile.split(","))
        for tile in (_TILE.findall(tiling.group(1)) if tiling else ())
    )
    return Array(
        dtype,
        tuple(map(int, _DIGITS.findall(dims))),
        tuple(map(int, _DIGITS.findall(order))),
        tiles,
        int(space.group(1)) if space else HBM,
    )


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    number = _DIGITS.search(dtype.removeprefix("b"))
    return int(number.group()) if number else 8


def _padded(array: Array) -> tuple[int, ...]:
    """Sizes in memory, slowest first, rounded up to whole tiles."""
    order = array.order or tuple(reversed(range(len(array.dims))))
    sizes = [array.dims[i] for i in reversed(order)] if array.dims else [1]
    for tile in array.tiles:
        sizes = [1] * (len(tile) - len(sizes)) + sizes
        split = len(sizes) - len(tile)
        whole = [-(-size // part) for size, part in zip(sizes[split:], tile, strict=True)]
        sizes = [*sizes[:split], *whole, *tile]
    return tuple(sizes)
