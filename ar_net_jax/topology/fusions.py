"""Bytes that an operation of a compiled program reads from a memory and writes to it."""

from ar_net_jax.topology.hlo import Array, Computation, Instruction, Shape, Text

_SLICES = ("slice", "dynamic-slice", "gather")
_UPDATES = ("dynamic-update-slice", "scatter")
_FUSED = ("fusion", "call")
# They hand on a whole array as it is.
_VIEWS = ("bitcast",)


def bytes_read(text: Text, computation: Computation, each: Instruction, memory: int) -> float:
    """What an operation reads.

    Args:
        text: the program.
        computation: where the operation stands.
        each: the operation.
        memory: number of the memory that counts.
    """
    return sum(
        _read_of(text, each, name, array)
        for name in dict.fromkeys(each.operands)
        for array in computation[name].shape
        if array.space == memory
    )


def bytes_written(text: Text, computation: Computation, each: Instruction, memory: int) -> float:
    """What an operation writes; of an array changed in place, what is changed.

    Args:
        text: the program.
        computation: where the operation stands.
        each: the operation.
        memory: number of the memory that counts.
    """
    if each.field("custom_call_target").strip('"') == "AllocateBuffer":
        return 0.0
    changed = _changed(text, computation, each)
    if changed is not None:
        return changed if any(array.space == memory for array in each.shape) else 0.0
    return sum(array.size for array in _results(each) if array.space == memory)


def _results(each: Instruction) -> Shape:
    """What is new of a result; that of a started operation holds its operands as well."""
    if not each.opcode.endswith("-start") or each.opcode == "all-reduce-start":
        return each.shape
    return each.parts[0] if each.opcode == "copy-start" else each.parts[1]


def _read_of(text: Text, each: Instruction, name: str, array: Array) -> float:
    """Of one operand."""
    if each.opcode.removesuffix("-start") in _SLICES and each.operands[0] == name:
        return sum(result.size for result in _results(each))
    if each.opcode in _UPDATES and each.operands[0] == name:
        return 0.0
    called = each.called("calls") or each.called("async_computation")
    if not called:
        return array.size
    inner = text[called[0]]
    places = [place for place, operand in enumerate(each.operands) if operand == name]
    return sum(_read_inside(text, inner, inner.parameters[place], array) for place in places)


def _read_inside(text: Text, inner: Computation, value: Instruction, whole: Array) -> float:
    """Of an argument, or a view of it, by the operations fused with it.

    Those share one read of the whole; a fusion within the fusion, which prepares what a matrix unit
    takes, reads for itself.
    """
    if value.name == inner.root:
        return whole.size
    total, shared = 0.0, False
    for user in inner.users.get(value.name, []):
        if user.opcode in _VIEWS and user.name != inner.root:
            total += _read_inside(text, inner, user, whole)
        elif user.opcode in (*_SLICES, *_UPDATES, *_FUSED):
            total += _read_of(text, user, value.name, whole)
        else:
            shared = True
    return total + shared * whole.size


def _changed(text: Text, computation: Computation, each: Instruction) -> float | None:
    """Bytes of what is written into an array in place; None where the operation does no such."""
    if each.opcode in _UPDATES:
        update = each.operands[1 if each.opcode == "dynamic-update-slice" else -1]
        return float(sum(array.size for array in computation[update].shape))
    if each.opcode in _FUSED and each.called("calls"):
        inner = text[each.called("calls")[0]]
        return _changed_by(text, inner, inner[inner.root])
    return None


def _changed_by(text: Text, inner: Computation, root: Instruction) -> float | None:
    """As `_changed`, of a fusion whose result is `root`."""
    if root.opcode == "tuple":
        parts = [inner[name] for name in root.operands]
        found = [_changed_by(text, inner, part) for part in parts]
        if all(changed is None for changed in found):
            return None
        wholes = [sum(array.size for array in part.shape) for part in parts]
        return sum(w if f is None else f for w, f in zip(wholes, found, strict=True))
    if root.opcode == "bitcast":
        return _changed_by(text, inner, inner[root.operands[0]])
    return _changed(text, inner, root)
