"""Compiled programs of a benchmark, and their inputs on the devices."""

import dataclasses
import time
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ar_net_jax.benchmarks.entries import Entry
from ar_net_jax.benchmarks.parts import Parts
from ar_net_jax.inference.plans import Plans, describe_plan
from ar_net_jax.inference.step import Request, Result, Routing, make_inference
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.mesh import replicate, sharded
from ar_net_jax.runtime.timing import wait


@dataclasses.dataclass(frozen=True)
class Program:
    """A model compiled for one shape of input.

    Attributes:
        call: runs it.
        compile_seconds: tracing included.
        memory_bytes: of arguments, results and temporaries on each device, as XLA plans it;
            None where the platform does not tell.
    """

    call: Callable[[Request], Result]
    compile_seconds: float
    memory_bytes: int | None


class Programs:
    """Compiles each program once; decisions are data, so that all usages share one."""

    def __init__(
        self, chunks: Chunks | None, mesh: Mesh | None, plans: Plans | None = None
    ) -> None:
        """Nothing is compiled yet.

        Args:
            chunks: sizes of chunk of the routed form, in place of a plan's.
            mesh: of several devices; None for one.
            plans: of the models; none by default.
        """
        self.mesh = mesh
        self.plans = plans or Plans()
        self.parts = Parts(chunks, self.plans)
        self._chunks = chunks
        self._compiled: dict[Hashable, tuple[Callable[..., Result], float, int | None]] = {}
        self._placed: dict[tuple[int, bool], tuple[Any, Any]] = {}

    def get(self, entry: Entry, form: Routing, request: Request, *, alone: bool) -> Program:
        """The program for inputs of the shape of `request`.

        Args:
            entry: its model.
            form: of routing.
            request: an input, on the devices on which the program is to run.
            alone: on one device, even where there are several.
        """
        mesh = None if alone else self.mesh
        variables = self.variables(entry, alone=alone)
        penalty = jnp.float32(entry.cost_penalty)
        if mesh is not None:
            penalty = replicate(penalty, mesh)
        imposed = request.forced_actions is not None
        model = (entry.config.method, entry.config.model)
        key = (*model, form, request.frames.shape, imposed, mesh is None)
        if key not in self._compiled:
            infer: Any = make_inference(
                entry.method,
                routing=form,
                chunks=self._chunks,
                mesh=mesh,
                plan=self.plans.of(entry.method),
            )
            started = time.perf_counter()
            compiled = infer.lower(variables, request, penalty).compile()
            seconds = time.perf_counter() - started
            self._compiled[key] = (compiled, seconds, _planned_bytes(compiled))
        compiled, seconds, planned = self._compiled[key]
        return Program(lambda request: compiled(variables, request, penalty), seconds, planned)

    def describe_plan(self, entry: Entry, form: Routing) -> dict[str, Any] | None:
        """How the model's routed form runs, see `describe_plan`; None in the masked form."""
        if form == "masked":
            return None
        plan, alone = self.plans.of(entry.method), self.mesh is None
        return describe_plan(entry.method, plan, self._chunks, alone=alone)

    def variables(self, entry: Entry, *, alone: bool) -> Any:
        """A entry's variables on the devices, put there once."""
        mesh = None if alone else self.mesh
        key = (id(entry.variables), mesh is None)
        if key not in self._placed:
            tree = entry.variables
            placed = jax.device_put(tree) if mesh is None else replicate(tree, mesh)
            # The host's tree is kept as well, so that no other comes to have its id.
            self._placed[key] = (tree, placed)
        return self._placed[key][1]

    def request(
        self,
        entry: Entry,
        frames: np.ndarray,
        forced_actions: np.ndarray | None,
        number: int,
        *,
        alone: bool,
    ) -> Request:
        """An input on the devices.

        Args:
            entry: whose input.
            frames: uint8 [B, T, S, S, 3].
            forced_actions: int32 [B, T] or None.
            number: of the input; other numbers give a method that draws other draws.
            alone: on one device.
        """
        order = jnp.arange(frames.shape[0])
        keys = example_keys(entry.config.seed, jnp.full_like(order, number), order)
        where = None if alone or self.mesh is None else sharded(self.mesh)
        inputs = (frames, keys, forced_actions)
        frames_there, keys_there, forced = wait(jax.device_put(inputs, where))
        return Request(frames=frames_there, keys=keys_there, forced_actions=forced)


def _planned_bytes(compiled: Any) -> int | None:
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    sizes = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return int(sizes - plan.alias_size_in_bytes)
