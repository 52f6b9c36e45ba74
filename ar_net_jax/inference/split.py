"""A traced program split at the loops of its routed networks, so that the host can run them.

A loop on a device that ends when no frame is left asks, on some devices, the host before every
trip. Split, the program runs in stages: all that can be computed before a loop, one transfer that
tells how many frames each network was given, and then as many chunks as those need, none of which
waits for another's answer. A network whose choice depends on what another found gets a stage of its
own. Loops within other loops are left as they are.

The number of programs does not depend on the decisions: one for each stage, at most one more than
networks with loops, and one for each network and size of chunk.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

from ar_net_jax.ops.routing import RoutedCount
from ar_net_jax.runtime.machine import cpu_cores

Program = Callable[..., Sequence[Any]]
Trips = Mapping[int, int]
TripsOf = Callable[[RoutedCount, int], Trips]
"""From a network and the number of its frames to how often each size of chunk runs."""


@dataclass
class RoutedLoops:
    """The loops of one network, one for each size of chunk.

    Attributes:
        told: the network and the sizes.
        count: the variable with the number of its frames.
        loops: the `while` equations, each of which takes the state that the one before leaves.
        steps: compiled programs by the loop's place: (constants, state) -> state.
    """

    told: RoutedCount
    count: Var
    loops: list[JaxprEqn] = field(default_factory=list)
    steps: dict[int, Program] = field(default_factory=dict)

    def constants(self, index: int) -> list[Var | Literal]:
        """What the body of a loop reads from outside."""
        params, invars = self.loops[index].params, self.loops[index].invars
        start: int = params["cond_nconsts"]
        return list(invars[start : start + params["body_nconsts"]])

    def start(self, index: int) -> list[Var | Literal]:
        """The state that a loop starts from."""
        params = self.loops[index].params
        return list(self.loops[index].invars[params["cond_nconsts"] + params["body_nconsts"] :])

    def compile_step(self, index: int) -> None:
        """Compiles one chunk of the index-th size."""
        body: ClosedJaxpr = self.loops[index].params["body_jaxpr"]
        # The last of the state holds all results; `run_selected` makes it for these loops alone.
        last = len(body.jaxpr.invars) - 1
        self.steps[index] = _compile(jaxpr_as_fun(body), body.jaxpr, donated=last)

    def run_step(self, index: int, values: Mapping[Var, Any], state: Sequence[Any]) -> list[Any]:
        """One chunk; the last array of the state is given up to it."""
        return list(self.steps[index](*_read(values, self.constants(index)), *state))

    def first_state(self, values: Mapping[Var, Any]) -> list[Any]:
        """The state before the first chunk."""
        return _read(values, self.start(0))


@dataclass
class Stage:
    """What can be computed before the loops of some networks, and those.

    Attributes:
        equations: in order.
        networks: with loops that run after them.
        inputs: variables that the equations read.
        outputs: those that something later reads.
        program: compiled, from inputs to outputs.
    """

    equations: list[JaxprEqn] = field(default_factory=list)
    networks: list[RoutedLoops] = field(default_factory=list)
    inputs: list[Var] = field(default_factory=list)
    outputs: list[Var] = field(default_factory=list)
    program: Program | None = None


class SplitProgram:
    """A function for one shape of arguments, in stages."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        """Traces and splits; nothing is compiled yet.

        Args:
            function: can be traced by JAX.
            *args: its arguments, arrays or trees of them, or shapes of such.
        """
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        self._closed: ClosedJaxpr = closed
        # NumPy's would be brought to the device by every chunk anew.
        self._constants = [jnp.asarray(each) for each in closed.consts]
        self._result = jax.tree.structure(shape)
        self.stages = _split(closed.jaxpr)
        _connect(self.stages, closed.jaxpr)

    @property
    def networks(self) -> list[RoutedLoops]:
        """All that have loops which the host runs."""
        return [loops for stage in self.stages for loops in stage.networks]

    @property
    def num_programs(self) -> int:
        """How many programs `compile` compiles."""
        return len(self.stages) + sum(len(loops.loops) for loops in self.networks)

    def compile(self) -> "SplitProgram":
        """Compiles all that any decision may need; returns itself."""
        with ThreadPoolExecutor(programs_at_once()) as pool:
            pending = [pool.submit(self.compile_stage, stage) for stage in self.stages]
            for loops in self.networks:
                places = range(len(loops.loops))
                pending += [pool.submit(loops.compile_step, place) for place in places]
            for each in pending:
                each.result()
        return self

    def compile_stage(self, stage: Stage) -> None:
        """Compiles what a stage computes before its loops."""
        # A result or constant may be an argument unchanged, which no program gives.
        whole = self._closed.jaxpr
        part = whole.replace(
            constvars=[], invars=stage.inputs, outvars=stage.outputs, eqns=stage.equations
        )
        stage.program = _compile(lambda *values: jax.core.eval_jaxpr(part, [], *values), part)

    def memory_analysis(self) -> None:
        """Not known: the programs follow one another, and arrays live on between them."""

    def start(self, *args: Any) -> dict[Var, Any]:
        """The variables that are known before the first stage."""
        jaxpr = self._closed.jaxpr
        leaves = jax.tree.leaves(args)
        return dict(zip([*jaxpr.invars, *jaxpr.constvars], [*leaves, *self._constants]))

    def run(self, trips_of: TripsOf, *args: Any) -> Any:
        """Runs all stages.

        Args:
            trips_of: how a number of frames is divided into chunks; together they must hold it.
            *args: of the shapes that it was traced for.
        """
        values = self.start(*args)
        for stage in self.stages:
            run_equations(stage, values)
            counts = jax.device_get([values[loops.count] for loops in stage.networks])
            for loops, count in zip(stage.networks, counts):
                trips = trips_of(loops.told, int(count))
                state = loops.first_state(values)
                for index, size in enumerate(loops.told.chunks):
                    for _ in range(trips.get(size, 0)):
                        state = loops.run_step(index, values, state)
                values.update(zip(loops.loops[-1].outvars, state))
        return jax.tree.unflatten(self._result, _read(values, self._closed.jaxpr.outvars))


def programs_at_once() -> int:
    """How many programs to compile side by side.

    XLA times kernels when it compiles for a GPU, which others beside it would disturb: nine chunks
    took 230 s that way on an H200.
    """
    return 1 if jax.default_backend() == "gpu" else cpu_cores()


def run_equations(stage: Stage, values: dict[Var, Any]) -> None:
    """Adds to the variables what a compiled stage computes before its loops."""
    assert stage.program is not None
    values.update(zip(stage.outputs, stage.program(*_read(values, stage.inputs))))


def _compile(function: Program, jaxpr: Jaxpr, donated: int | None = None) -> Program:
    shapes = [_shape(var) for var in jaxpr.invars]
    given = () if donated is None else (donated,)
    # What is never read would otherwise not be a parameter of the compiled program.
    jitted = jax.jit(function, donate_argnums=given, keep_unused=True)
    return jitted.lower(*shapes).compile()


def _split(jaxpr: Jaxpr) -> list[Stage]:
    """Every equation in the first stage in which all that it reads is known."""
    stages = [Stage()]
    # The stage that makes each variable, and those that only its loops make.
    made: dict[Var, int] = {}
    by_loops: dict[Var, RoutedLoops] = {}
    counts: dict[Var, RoutedLoops] = {}
    for equation in jaxpr.eqns:
        read = [var for var in equation.invars if isinstance(var, Var)]
        loops = _loops_of(equation, counts)
        # What a loop leaves is known in the next stage, and to the network's next loop at once.
        known = [
            made.get(var, 0) + (var in by_loops and by_loops[var] is not loops) for var in read
        ]
        level = max(known, default=0)
        while level >= len(stages):
            stages.append(Stage())
        made.update(dict.fromkeys(equation.outvars, level))
        if loops is None:
            stages[level].equations.append(equation)
            told = _told(equation)
            if told is not None:
                counts[equation.outvars[0]] = RoutedLoops(told, equation.outvars[0])
            continue
        if not loops.loops:
            stages[level].networks.append(loops)
        loops.loops.append(equation)
        by_loops.update(dict.fromkeys(equation.outvars, loops))
    return stages


def _told(equation: JaxprEqn) -> RoutedCount | None:
    if equation.primitive.name != "name":
        return None
    return RoutedCount.parse(equation.params["name"])


def _loops_of(equation: JaxprEqn, counts: Mapping[Var, RoutedLoops]) -> RoutedLoops | None:
    """The network whose loop this equation is."""
    if equation.primitive.name != "while" or equation.params["cond_nconsts"] != 1:
        return None
    count = equation.invars[0]
    return counts.get(count) if isinstance(count, Var) else None


def _connect(stages: Sequence[Stage], jaxpr: Jaxpr) -> None:
    """Finds what each stage reads, and what of its variables is read later."""
    needed = {var for var in jaxpr.outvars if isinstance(var, Var)}
    for stage in reversed(stages):
        for loops in stage.networks:
            needed -= set(loops.loops[-1].outvars)
            needed.add(loops.count)
            places = (
                *loops.start(0),
                *(v for i in range(len(loops.loops)) for v in loops.constants(i)),
            )
            needed |= {var for var in places if isinstance(var, Var)}
        made = {var for equation in stage.equations for var in equation.outvars}
        stage.outputs = sorted(needed & made, key=_place(stage.equations))
        stage.inputs = [var for var in dict.fromkeys(_reads(stage.equations)) if var not in made]
        needed = (needed - made) | set(stage.inputs)


def _reads(equations: Sequence[JaxprEqn]) -> list[Var]:
    return [var for equation in equations for var in equation.invars if isinstance(var, Var)]


def _place(equations: Sequence[JaxprEqn]) -> Callable[[Var], int]:
    made = [var for equation in equations for var in equation.outvars]
    return {var: place for place, var in enumerate(made)}.__getitem__


def _shape(place: Var | Literal) -> jax.ShapeDtypeStruct:
    """Of an array; all that programs take and give are arrays."""
    assert isinstance(place.aval, ShapedArray)
    return jax.ShapeDtypeStruct(place.aval.shape, place.aval.dtype)


def _read(values: Mapping[Var, Any], places: Sequence[Var | Literal]) -> list[Any]:
    return [
        _on_device(np.asarray(place.val, _shape(place).dtype).tobytes(), _shape(place).dtype)
        if isinstance(place, Literal)
        else values[place]
        for place in places
    ]


@functools.lru_cache(maxsize=256)
def _on_device(number: bytes, dtype: np.dtype[Any]) -> jax.Array:
    """A number of a program's text, which is brought to the device once."""
    return jnp.asarray(np.frombuffer(number, dtype)[0])
