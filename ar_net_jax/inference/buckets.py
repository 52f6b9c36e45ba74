"""The routed form run by the host: the decisions are told once, then chunk follows chunk.

Sizes are powers of two, and the host takes those that hold a network's frames in the least measured
time. Everything is compiled when inputs of a shape are first seen.
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from ar_net_jax.inference.ladder import fewest_seconds
from ar_net_jax.inference.plan import Plan
from ar_net_jax.inference.split import SplitProgram, Trips
from ar_net_jax.ops.routing import RoutedCount, expected_trips


class BucketProgram:
    """A function for one shape of arguments."""

    def __init__(self, program: SplitProgram, plan: Plan) -> None:
        """Nothing is compiled yet.

        Args:
            program: the function, traced and split.
            plan: whose measured times tell which chunks to take.
        """
        self.program, self._plan = program, plan

    def compile(self) -> "BucketProgram":
        """Compiles all that any decision may need; returns itself."""
        self.program.compile()
        return self

    def memory_analysis(self) -> None:
        """Not known, see `SplitProgram`."""

    def __call__(self, *args: Any) -> Any:
        """Runs it."""
        return self.program.run(self._trips, *jax.tree.map(_on_device, args))

    def _trips(self, told: RoutedCount, count: int) -> Trips:
        seconds = self._plan.seconds(told.network)
        if not seconds:
            return expected_trips(count, told.chunks)
        return fewest_seconds(count, told.chunks, seconds)


def _on_device(value: Any) -> jax.Array:
    """NumPy's would be brought to the device by every chunk anew."""
    # For an array of JAX's own `asarray` takes 40 us, and a model has hundreds of them.
    return value if isinstance(value, jax.Array) else jnp.asarray(value)


class BucketedFunction:
    """A function that is compiled for each shape of arguments, as `jax.jit` does."""

    def __init__(self, function: Callable[..., Any], plan: Plan) -> None:
        """Nothing is traced yet.

        Args:
            function: can be traced by JAX.
            plan: see `BucketProgram`.
        """
        self._function, self._plan = function, plan
        self._compiled: dict[Any, BucketProgram] = {}

    def lower(self, *args: Any) -> Any:
        """The program for arguments of these shapes, to be compiled: a `BucketProgram`."""
        return BucketProgram(SplitProgram(self._function, *args), self._plan)

    def __call__(self, *args: Any) -> Any:
        """Calls the function."""
        leaves, tree = jax.tree.flatten(args)
        key = (tree, tuple(jax.typeof(leaf) for leaf in leaves))
        if key not in self._compiled:
            self._compiled[key] = cast(BucketProgram, self.lower(*args).compile())
        return self._compiled[key](*args)
