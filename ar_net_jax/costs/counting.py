"""Counts multiply-accumulates by walking the jaxpr of a function; nothing is computed."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var


class Operation(NamedTuple):
    """A convolution or matrix product.

    Attributes:
        primitive: 'conv_general_dilated' or 'dot_general'.
        operand_shapes: of its two inputs.
        output_shape: of its result.
        macs: multiply-accumulates of all its runs together.
        runs: how often the program runs it (the length of the scans around it).
    """

    primitive: str
    operand_shapes: tuple[tuple[int, ...], tuple[int, ...]]
    output_shape: tuple[int, ...]
    macs: int
    runs: int


def list_operations(fn: Callable[..., Any], *args: Any) -> list[Operation]:
    """The convolutions and matrix products of `fn(*args)`, in program order.

    A scan counts its body times its length, a `while_loop` its body once. Of the branches of a
    `cond` the most expensive one counts; of those that differ by platform the one for platforms
    that have no form of their own, so a convolution counts as one whatever form a platform takes. A
    `shard_map` counts the work of all its shards. Multiplications by padding zeros are included, as
    is usual.

    Args:
        fn: a function that JAX can trace.
        *args: its arguments, arrays or `jax.ShapeDtypeStruct`s.
    """
    return list(_walk(jax.make_jaxpr(fn)(*args).jaxpr, 1))


def count_macs(fn: Callable[..., Any], *args: Any) -> int:
    """Multiply-accumulates of the convolutions and matrix products in `fn(*args)`.

    Args and rules as in `list_operations`.

    Example:
        >>> import jax.numpy as jnp
        >>> count_macs(jnp.dot, jnp.ones((2, 3)), jnp.ones((3, 4)))
        24
    """
    return sum(operation.macs for operation in list_operations(fn, *args))


def _walk(jaxpr: Jaxpr, runs: int) -> Iterator[Operation]:
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "conv_general_dilated":
            yield _operation(eqn, _conv_macs(eqn), runs)
        elif name == "dot_general":
            yield _operation(eqn, _dot_macs(eqn), runs)
        elif name == "cond":
            branches = [list(_walk(branch.jaxpr, runs)) for branch in _branches(eqn)]
            yield from max(branches, key=lambda found: sum(op.macs for op in found))
        else:
            for inner in _inner_jaxprs(eqn.params):
                yield from _walk(inner, runs * _repetitions(eqn))


def _branches(eqn: JaxprEqn) -> tuple[ClosedJaxpr, ...]:
    """Those of a choice that may be the one that runs."""
    branches: tuple[ClosedJaxpr, ...] = eqn.params["branches"]
    platforms = eqn.params.get("branches_platforms", ())
    return (branches[platforms.index(None)],) if None in platforms else branches


def _repetitions(eqn: JaxprEqn) -> int:
    if eqn.primitive.name == "scan":
        return eqn.params["length"]
    if eqn.primitive.name == "shard_map":
        mesh = eqn.params["mesh"]
        return math.prod(mesh.shape[axis] for axis in eqn.params["newly_manual_axes"])
    return 1


def _inner_jaxprs(params: dict[str, Any]) -> Iterator[Jaxpr]:
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item


def _operation(eqn: JaxprEqn, macs: int, runs: int) -> Operation:
    left, right = (_shape(var) for var in eqn.invars)
    output = _shape(eqn.outvars[0])
    return Operation(eqn.primitive.name, (left, right), output, macs * runs, runs)


def _conv_macs(eqn: JaxprEqn) -> int:
    """Output elements times kernel taps; the kernel's shape already allows for channel groups."""
    kernel = _shape(eqn.invars[1])
    out_channels = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
    return math.prod(_shape(eqn.outvars[0])) * math.prod(kernel) // max(out_channels, 1)


def _dot_macs(eqn: JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left = _shape(eqn.invars[0])
    return math.prod(_shape(eqn.outvars[0])) * math.prod(left[axis] for axis in contracted)


def _shape(value: Var | Literal) -> tuple[int, ...]:
    """Of an array; all that convolutions and matrix products take and give are arrays."""
    assert isinstance(value.aval, ShapedArray)
    return tuple(value.aval.shape)
