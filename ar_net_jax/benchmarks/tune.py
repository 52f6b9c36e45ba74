"""Measures how the routed form of a model runs best on the device at hand.

What is timed is what inference runs: one chunk of each network at every size that is a power of
two, cut out of the traced program; then the whole in both forms, where time is left.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.chunks import plan_chunks, plan_parts
from ar_net_jax.inference.ladder import choose_chunks, fewest_seconds
from ar_net_jax.inference.plan import FORMS, Form, NetworkPlan, Plan, PlanKey
from ar_net_jax.inference.split import RoutedLoops, SplitProgram, programs_at_once, run_equations
from ar_net_jax.inference.step import Request, inference_function, make_inference
from ar_net_jax.methods import Method
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.timing import Call, time_interleaved, wait

# Calls of one chunk; and of a whole, which takes longer.
_ROUNDS, _WHOLE_ROUNDS = 7, 5
# The other form has to be faster by so much than the loop, which is one program.
_LEAST_GAIN = 0.01
# Sizes go up to so many times the largest of the usual ones, and on an accelerator down to this
# one: fewer frames take as long there.
_BEYOND, _LEAST_ELSEWHERE = 2, 8
# Of all time, for single chunks: the rest is for both forms of the whole. Of the time that is left
# for chunks, for compiling other sizes than the usual ones.
_CHUNKS, _COMPILING = 0.7, 0.6


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What was measured.

    Attributes:
        plan: that follows.
        form_seconds: of the whole by number of videos and form; empty where no time was left.
        left_out: sizes for which no time was left, as (network, size).
        seconds: that measuring took, compilation included.
    """

    plan: Plan
    form_seconds: dict[int, dict[Form, float]]
    left_out: tuple[tuple[str, int], ...]
    seconds: float


def tune(
    config: Config,
    variables: Any,
    *,
    videos: int,
    budget: float = 60.0,
    progress: bool = True,
) -> Tuning:
    """Measures a model's plan.

    Args:
        config: of the model.
        variables: trained or fresh, on which speed does not depend.
        videos: of a large batch.
        budget: seconds after which nothing more is begun; the usual sizes of every network are
            measured in any case.
        progress: whether to show a bar.

    Raises:
        UserError: the model has no network whose frames are chosen all at once.
    """
    started = time.monotonic()
    method, length = config.build_method(), config.data.num_frames
    variables = jax.device_put(variables)
    penalty = jnp.float32(0.0)
    request = _noise(method, videos, length)
    function = inference_function(
        method,
        chunks=_candidates(method, videos * length),
        parts=plan_parts(
            method.networks(), jax.default_backend(), "routed", dtype=method.config.dtype
        ),
    )
    program = SplitProgram(function, variables, request, penalty)
    if not program.networks:
        raise UserError(
            f"{method.name}: looks at frames step after step, in chunks that follow from its "
            "steps; there is nothing to measure"
        )
    chunks = _Chunks(program, (variables, request, penalty))
    measured, left_out = chunks.measure(method, started + _CHUNKS * budget, progress)
    key = PlanKey.of(method)
    plan = Plan(key, "loop", tuple(_network(name, found) for name, found in measured.items()))
    seconds: dict[int, dict[Form, float]] = {}
    if time.monotonic() < started + budget:
        seconds[videos] = chunks.measure_forms(method, plan)
    if time.monotonic() < started + budget:
        seconds[1] = _measure_forms_alone(method, plan, variables, length)
    plan = dataclasses.replace(plan, form=_faster(seconds))
    return Tuning(plan, seconds, left_out, time.monotonic() - started)


def _candidates(method: Method[Any, Any], frames: int) -> dict[str, Chunks]:
    """By network the powers of two that are tried, descending."""
    platform = jax.default_backend()
    usual = plan_chunks(method.networks(), platform, dtype=method.config.dtype)
    least = 1 if platform == "cpu" else min(_LEAST_ELSEWHERE, frames)
    powers = [1 << k for k in reversed(range(20))]
    return {
        name: tuple(s for s in powers if least <= s <= min(_BEYOND * sizes[0], frames))
        for name, sizes in usual.items()
    }


def _noise(method: Method[Any, Any], videos: int, length: int) -> Request:
    """Videos of noise; where decisions can be imposed, every choice as often as any other."""
    rng, side = np.random.default_rng(0), method.image_size
    frames = rng.integers(0, 256, (videos, length, side, side, 3), np.uint8)
    order = jnp.arange(videos)
    forced = None
    if method.traits.steerable:
        forced = jnp.asarray(rng.integers(0, len(method.choices), (videos, length), np.int32))
    keys = example_keys(0, jnp.zeros_like(order), order)
    return Request(jnp.asarray(frames), keys, forced_actions=forced)


class _Chunks:
    """The chunks of a split program, compiled and timed one after the other."""

    def __init__(self, program: SplitProgram, args: tuple[Any, ...]) -> None:
        self._program, self._args = program, args

    def measure(
        self, method: Method[Any, Any], deadline: float, progress: bool
    ) -> tuple[dict[str, dict[int, float]], tuple[tuple[str, int], ...]]:
        """Seconds of a chunk by network and size; and what there was no time for."""
        usual = plan_chunks(method.networks(), jax.default_backend(), dtype=method.config.dtype)
        found: dict[str, dict[int, float]] = {}
        left_out = []
        values = self._program.start(*self._args)
        for stage in self._program.stages:
            self._program.compile_stage(stage)
            run_equations(stage, values)
            # The usual sizes first, then ever more distant ones, of all networks in turn.
            wanted = sorted(
                (
                    (abs(np.log2(size / usual[loops.told.network][0])), size, place, loops)
                    for loops in stage.networks
                    for place, size in enumerate(loops.told.chunks)
                ),
                key=lambda each: each[:2],
            )
            chunks = [
                (each, place, size in usual[each.told.network]) for _, size, place, each in wanted
            ]
            _compile_chunks(chunks, deadline)
            for _, size, place, loops in tqdm.tqdm(
                wanted, "chunks", disable=not (progress and wanted)
            ):
                name = loops.told.network
                late = time.monotonic() > deadline or place not in loops.steps
                if late and size not in usual[name]:
                    left_out.append((name, size))
                    continue
                found.setdefault(name, {})[size] = _time_chunk(loops, place, values)
            for loops in stage.networks:
                state = loops.first_state(values)
                values.update(zip(loops.loops[-1].outvars, state))
        return found, tuple(left_out)

    def measure_forms(self, method: Method[Any, Any], plan: Plan) -> dict[Form, float]:
        """Seconds of the whole in both forms; the chunks are compiled already."""
        loop = make_inference(method, plan=plan)

        def buckets(_: int) -> Any:
            return self._program.run(
                lambda told, count: fewest_seconds(
                    count,
                    tuple(size for size, _ in plan.seconds(told.network)),
                    plan.seconds(told.network),
                ),
                *self._args,
            )

        return _time_forms({"loop": lambda _: loop(*self._args), "buckets": buckets})


def _compile_chunks(chunks: Sequence[tuple[RoutedLoops, int, bool]], deadline: float) -> None:
    """Compiles chunks before anything is timed, side by side where that is possible.

    Args:
        chunks: a network's loops, the place of a size, and whether it must be had.
        deadline: of all measurements; compiling others than those may take a part of the time.
    """
    started = time.monotonic()
    enough = started + _COMPILING * (deadline - started)
    with ThreadPoolExecutor(programs_at_once()) as pool:
        needed = [pool.submit(loops.compile_step, place) for loops, place, must in chunks if must]
        others = [pool.submit(loops.compile_step, p) for loops, p, must in chunks if not must]
        for each in needed:
            each.result()
        wait_for(others, timeout=max(0.0, enough - time.monotonic()))
        for each in others:
            each.cancel()


def _time_chunk(loops: RoutedLoops, place: int, values: Mapping[Any, Any]) -> float:
    """Seconds of one chunk of a network."""
    # A chunk gives up the array of results that it gets, and others need the first.
    state = [jnp.array(each, copy=True) for each in loops.first_state(values)]

    def call(_: int) -> Any:
        nonlocal state
        state = loops.run_step(place, values, state)
        return state

    wait(call(0))
    return float(np.median(time_interleaved({0: call}, _ROUNDS)[0]))


def _measure_forms_alone(
    method: Method[Any, Any], plan: Plan, variables: Any, length: int
) -> dict[Form, float]:
    """Seconds of one video in both forms."""
    args = (variables, _noise(method, 1, length), jnp.float32(0.0))

    def call_of(form: Form) -> Call:
        infer = make_inference(method, plan=dataclasses.replace(plan, form=form))
        return lambda _: infer(*args)

    return _time_forms({form: call_of(form) for form in FORMS})


def _time_forms(calls: Mapping[Form, Call]) -> dict[Form, float]:
    for call in calls.values():
        wait(call(0))
    seconds = time_interleaved(calls, _WHOLE_ROUNDS)
    return {form: float(np.median(taken)) for form, taken in seconds.items()}


def _network(name: str, measured: Mapping[int, float]) -> NetworkPlan:
    seconds = tuple(sorted(measured.items()))
    return NetworkPlan(name, choose_chunks(seconds), seconds)


def _faster(seconds: Mapping[int, Mapping[Form, float]]) -> Form:
    """The form that takes less time over all batches alike; the loop where that is close."""
    if not seconds:
        return "loop"
    ratios = [of["buckets"] / of["loop"] for of in seconds.values()]
    return "buckets" if np.exp(np.mean(np.log(ratios))) < 1 - _LEAST_GAIN else "loop"
