"""How often a loop of a compiled program runs, where that does not depend on data.

The few scalars that decide are computed as the program would: the loop's condition, and what its
body makes of its counters, starting from constants.
"""

import operator
from collections.abc import Callable
from typing import Any

from ar_net_jax.topology.hlo import Computation, Instruction, Text

Scalar = int | bool
# A scalar; a tuple as a function from place to value; or None for what depends on data.
Value = Any

# A loop that is not over by then is taken for one without a known end.
_MOST_TRIPS = 100_000

_SAME = ("copy", "copy-start", "copy-done", "bitcast", "reshape", "convert", "opt-barrier")
_BINARY: dict[str, Callable[[Any, Any], Scalar]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "minimum": min,
    "maximum": max,
    "and": operator.and_,
    "or": operator.or_,
}
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
    "EQ": operator.eq,
    "NE": operator.ne,
}


class Scalars:
    """The scalars of one run of a computation, found as they are asked for."""

    def __init__(self, text: Text, computation: Computation, arguments: tuple[Value, ...]) -> None:
        """Nothing is computed yet.

        Args:
            text: the program.
            computation: one of its computations.
            arguments: what it gets; None for what is not known.
        """
        self._text, self._computation, self._arguments = text, computation, arguments
        self._found: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Value:
        if name not in self._found:
            self._found[name] = self._compute(self._computation[name])
        return self._found[name]

    @property
    def root(self) -> Value:
        """What the computation gives."""
        return self[self._computation.root]

    def _compute(self, each: Instruction) -> Value:
        operands, opcode = each.operands, each.opcode
        if opcode == "parameter":
            number = int(each.argument)
            return self._arguments[number] if number < len(self._arguments) else None
        if opcode == "constant":
            return _constant(each.argument)
        if opcode == "tuple":
            return lambda place: self[operands[place]]
        if opcode == "get-tuple-element":
            whole = self[operands[0]]
            return whole(int(each.field("index"))) if callable(whole) else None
        if opcode in ("fusion", "call"):
            (called,) = each.called("calls") or each.called("to_apply")
            inner = tuple(self[name] for name in operands)
            return Scalars(self._text, self._text[called], inner).root
        if opcode in _SAME:
            return self[operands[0]]
        return self._calculate(each)

    def _calculate(self, each: Instruction) -> Value:
        # An array's elements are not followed; a scalar stands for itself.
        if any(array.dims for array in each.shape):
            return None
        if each.opcode not in (*_BINARY, "compare", "select", "not"):
            return None
        values = [self[name] for name in each.operands]
        if each.opcode == "select":
            chosen = values[0]
            return None if chosen is None else values[1 if chosen else 2]
        if any(value is None or callable(value) for value in values):
            return None
        if each.opcode == "not":
            return not values[0] if isinstance(values[0], bool) else ~values[0]
        if each.opcode == "compare":
            return _COMPARED[each.field("direction")](*values)
        return _BINARY[each.opcode](*values)


class _Counters:
    """The state of a loop by place; remembers which places were asked for."""

    def __init__(self, values: Callable[[int], Value]) -> None:
        self._values = values
        self.asked: set[int] = set()

    def __call__(self, place: int) -> Value:
        self.asked.add(place)
        return self._values(place)


def count_trips(text: Text, loop: Instruction, start: Value) -> int | None:
    """How often a `while` runs its body.

    Args:
        text: the program.
        loop: the instruction.
        start: the loop's state before its first trip, as `Scalars` gives it.

    Returns:
        The number, or None where it depends on data.
    """
    (condition,), (body,) = loop.called("condition"), loop.called("body")
    if not callable(start):
        return None
    needed = _needed(text, condition, body, start)
    state = {place: start(place) for place in needed}
    for trips in range(_MOST_TRIPS):
        goes_on = Scalars(text, text[condition], (state.get,)).root
        if goes_on is None or callable(goes_on):
            return None
        if not goes_on:
            return trips
        after = Scalars(text, text[body], (state.get,)).root
        if not callable(after):
            return None
        state = {place: after(place) for place in needed}
    return None


def _needed(text: Text, condition: str, body: str, start: Callable[[int], Value]) -> set[int]:
    """Places of the state that the condition depends on, over any number of trips."""
    state = _Counters(start)
    _ = Scalars(text, text[condition], (state,)).root
    seen: set[int] = set()
    while state.asked - seen:
        for place in state.asked - seen:
            seen.add(place)
            after = Scalars(text, text[body], (state,)).root
            if callable(after):
                after(place)
    return seen


def _constant(argument: str) -> Scalar | None:
    if argument in ("true", "false"):
        return argument == "true"
    try:
        return int(argument)
    except ValueError:
        return None
