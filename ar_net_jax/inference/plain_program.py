"""A traced program without what only JAX knows: calls inlined, one platform, nothing unused.

Converters to other formats read lax's primitives one by one. They know no rules of differentiation
and no choice by platform, and would convert what no output depends on.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend import core as extended
from jax.interpreters import partial_eval

Array = jax.Array
Program = Callable[..., list[Array]]

# Primitives that only call a program, by the parameter that holds it.
_CALLS = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


def plain_program(function: Callable[..., Any], *arguments: Any) -> extended.ClosedJaxpr:
    """Traces a function and simplifies what it is made of.

    Where `lax.platform_dependent` chooses, the default is taken.

    Args:
        function: of arrays, to a tree of arrays.
        arguments: its arguments, or their shapes (`jax.ShapeDtypeStruct`), which may be symbolic.

    Returns:
        The program, from the arguments to the leaves of the tree.
    """
    traced = jax.make_jaxpr(function)(*arguments)
    flat = jax.make_jaxpr(_inlined(_without_unused(traced)))(*arguments)
    return _without_unused(flat)


def primitives(program: extended.ClosedJaxpr) -> set[str]:
    """Names of all primitives, those in the bodies of loops included."""
    inner = (p for eqn in program.jaxpr.eqns for p in _programs_of(eqn.params))
    return {eqn.primitive.name for eqn in program.jaxpr.eqns}.union(*map(primitives, inner))


def _without_unused(program: extended.ClosedJaxpr) -> extended.ClosedJaxpr:
    jaxpr, _ = partial_eval.dce_jaxpr(
        program.jaxpr, [True] * len(program.jaxpr.outvars), instantiate=True
    )
    return extended.ClosedJaxpr(jaxpr, program.consts)


def _inlined(program: extended.ClosedJaxpr) -> Program:
    """What computes a program, equation by equation; to be traced anew."""

    def run(*arguments: Any) -> list[Any]:
        jaxpr = program.jaxpr
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, program.consts, strict=True))
        values |= zip(jaxpr.invars, arguments, strict=True)

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, extended.Literal) else values[atom]

        for eqn in jaxpr.eqns:
            results = _run_equation(eqn, [read(atom) for atom in eqn.invars])
            values |= zip(eqn.outvars, results, strict=True)
        return [read(atom) for atom in jaxpr.outvars]

    return run


def _run_equation(eqn: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    name, params = eqn.primitive.name, eqn.params
    if name == "platform_index":
        # An ordinary number, by which the choice itself knows its branch.
        return [params["platforms"].index(None)]
    if name == "cond" and isinstance(inputs[0], int):
        return _inlined(params["branches"][inputs[0]])(*inputs[1:])
    if name in _CALLS:
        return _inlined(params[_CALLS[name]])(*inputs)
    if name in _SPELT_OUT:
        return [_SPELT_OUT[name](*inputs, **params)]
    # Loops, and choices that depend on data, hold programs of their own.
    result = eqn.primitive.bind(*inputs, **{key: _replaced(v) for key, v in params.items()})
    return result if eqn.primitive.multiple_results else [result]


def _stack(*arrays: Array, axis: int) -> Array:
    return lax.concatenate([lax.expand_dims(array, [axis]) for array in arrays], axis)


def _max_pool(
    x: Array,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Array:
    """The maximum over windows, one axis after the other, between those before and those after."""
    axes = zip(window_dimensions, window_strides, padding, base_dilation, window_dilation)
    for axis, (window, stride, pad, base, dilation) in enumerate(axes):
        if (window, stride, *pad, base, dilation) == (1, 1, 0, 0, 1, 1):
            continue
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        merged = lax.reshape(x, (math.prod(before), x.shape[axis], math.prod(after)))
        pooled = lax.reduce_window_max_p.bind(
            merged,
            window_dimensions=(1, window, 1),
            window_strides=(1, stride, 1),
            padding=((0, 0), tuple(pad), (0, 0)),
            base_dilation=(1, base, 1),
            window_dilation=(1, dilation, 1),
        )
        x = lax.reshape(pooled, (*before, pooled.shape[1], *after))
    return x


# What converters lack, or convert to what their runtimes lack: ONNX Runtime pools three axes at
# most, and jax2onnx would have it pool all four.
_SPELT_OUT: dict[str, Callable[..., Array]] = {"stack": _stack, "reduce_window_max": _max_pool}


def _replaced(value: Any) -> Any:
    """A parameter of a primitive, its programs inlined."""
    if isinstance(value, extended.ClosedJaxpr):
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in value.in_avals]
        return jax.make_jaxpr(_inlined(value))(*shapes)
    if isinstance(value, tuple) and any(isinstance(v, extended.ClosedJaxpr) for v in value):
        return tuple(map(_replaced, value))
    return value


def _programs_of(params: dict[str, Any]) -> list[extended.ClosedJaxpr]:
    held = (value if isinstance(value, tuple) else (value,) for value in params.values())
    return [v for values in held for v in values if isinstance(v, extended.ClosedJaxpr)]
