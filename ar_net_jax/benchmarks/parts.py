"""The parts of a model as programs of their own, on the frames that the whole gives them."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.benchmarks.entries import Entry
from ar_net_jax.inference.chunks import plan_chunks, plan_parts
from ar_net_jax.inference.plans import Plans
from ar_net_jax.inference.step import Request, Routing
from ar_net_jax.methods.timed_parts import TimedPart
from ar_net_jax.modules.frame_runner import Mode
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.timing import Call, wait

Array = jax.Array


class Parts:
    """Compiles each part once; actions are data, so that all usages share one."""

    def __init__(self, chunks: Chunks | None, plans: Plans) -> None:
        """Nothing is compiled yet.

        Args:
            chunks: sizes of chunk of the routed form, in place of a plan's.
            plans: of the models, whose sizes are taken; parts are loops always.
        """
        self._chunks, self._plans = chunks, plans
        self._jitted: dict[Hashable, Callable[..., Any]] = {}

    def calls(
        self,
        entry: Entry,
        form: Routing,
        variables: Any,
        requests: Sequence[Request],
        actions: Sequence[np.ndarray],
    ) -> dict[str, Call]:
        """One call for each part, warmed up.

        Args:
            entry: of a method with more than one network.
            form: of routing.
            variables: on one device.
            requests: inputs on that device, one for each round, in turn.
            actions: int32 [B, T], what was done with the frames of each of them.

        Returns:
            By the part's name a call that runs it on one of the inputs.
        """
        taken = [jnp.asarray(done) for done in actions]
        given: dict[str, list[Any]] = {"": [request.frames for request in requests]}
        parts = entry.method.timed_parts()
        needed = {part.after for part in parts.values()}
        calls = {}
        for name, part in parts.items():
            run = self._program(entry, form, name, part)
            inputs = list(zip(given[part.after], taken, strict=True))
            wait(run(variables, *inputs[0]))
            calls[name] = _in_turn(run, variables, inputs)
            if name in needed:
                given[name] = [run(variables, *values) for values in inputs]
        return calls

    def _program(
        self, entry: Entry, form: Routing, name: str, part: TimedPart
    ) -> Callable[..., Any]:
        """The jitted part: (variables, given, actions) -> arrays."""
        key = (entry.config.method, entry.config.model, form, name)
        if key not in self._jitted:
            method, mode = entry.method, Mode()
            if form == "routed":
                networks, platform = method.networks(), jax.default_backend()
                dtype = method.config.dtype
                plan = self._plans.of(method)
                sizes = plan_chunks(networks, platform, self._chunks, plan, dtype=dtype)
                parts = plan_parts(networks, platform, form, dtype=dtype)
                mode = Mode(chunks=sizes, parts=parts)
            module = method.module()

            def run(variables: Any, given: Any, actions: Array) -> Any:
                return module.apply(
                    variables, method=lambda bound: part.run(bound, given, actions, mode)
                )

            self._jitted[key] = jax.jit(run)
        return self._jitted[key]


def _in_turn(run: Callable[..., Any], variables: Any, inputs: Sequence[tuple[Any, Any]]) -> Call:
    return lambda number: run(variables, *inputs[number % len(inputs)])
