"""Inference compiled for a chip that is not at hand: its needs, and the saving to be expected."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.costs import usage_gflops
from ar_net_jax.experiment import Config
from ar_net_jax.inference.chunks import plan_chunks
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.methods import Method
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.ops.routing import Chunks, expected_trips, routed_loop
from ar_net_jax.runtime.mesh import replicated
from ar_net_jax.topology import (
    ChipCheck,
    Roofline,
    Slice,
    TripsOf,
    Work,
    compile_described,
    describe_devices,
)


@dataclasses.dataclass(frozen=True)
class ChunkBound:
    """One chunk of a network's frames.

    Attributes:
        network: its name.
        size: frames in the chunk.
        trips: chunks of this size that a batch needs.
        work: of one chunk.
        roofline: the least time for one chunk.
    """

    network: str
    size: int
    trips: float
    work: Work
    roofline: Roofline


@dataclasses.dataclass(frozen=True)
class InferenceCheck:
    """Routed inference of a batch on one chip.

    Attributes:
        title: the method's.
        videos: in the batch.
        num_frames: of a video.
        usage: share of frames by choice that the trips of the loops are counted at.
        chip: what the program needs of it.
        chunks: of the routed networks.
        uniform: the least seconds for the same batch on the main network, every frame; None where
            that is not routed.
        gflops_ratio: GFLOPs at this usage over those of the main network on every frame.
    """

    title: str
    videos: int
    num_frames: int
    usage: dict[str, float]
    chip: ChipCheck
    chunks: tuple[ChunkBound, ...]
    uniform: float | None
    gflops_ratio: float

    @property
    def time_ratio(self) -> float | None:
        """The bound over that of the main network on every frame."""
        return self.chip.roofline.seconds / self.uniform if self.uniform else None

    @property
    def expected_saving(self) -> float | None:
        """(1 - time ratio) / (1 - GFLOPs ratio), where computation is saved."""
        if self.time_ratio is None or self.gflops_ratio >= 1:
            return None
        return (1 - self.time_ratio) / (1 - self.gflops_ratio)


def check_inference(
    config: Config,
    wanted: Slice,
    usages: Sequence[np.ndarray | None] = (None,),
    *,
    videos: int = 32,
    num_frames: int | None = None,
    chunks: Chunks | None = None,
) -> list[InferenceCheck]:
    """Compiles routed inference for one chip; nothing is run, and there are no weights.

    One program serves all usages: they decide how often its loops run.

    Args:
        config: of the model.
        wanted: a slice with such chips.
        usages: shares of frames by choice, [A] each; None is every choice as often as any other.
        videos: in a batch.
        num_frames: of a video; by default the config's.
        chunks: sizes of chunk for every network; by default those for accelerators.

    Returns:
        What it needs at each usage.

    Raises:
        UserError: impossible chunks, or a batch that the chip has no room for; and as
            `describe_devices`.
    """
    method, length = config.build_method(), num_frames or config.data.num_frames
    usual = plan_chunks(method.networks(), "tpu", chunks, dtype=method.config.dtype)
    plan = {
        name: tuple(dict.fromkeys(min(size, videos * length) for size in sizes))
        for name, sizes in usual.items()
    }
    program = compile_described(
        _lower(method, wanted, videos, length, chunks),
        what=f"a batch of {videos} videos x {length} frames",
        remedy="take fewer videos",
    )
    even = np.full(len(method.choices), 1 / len(method.choices))

    def at(usage: np.ndarray) -> InferenceCheck:
        trips_of = expected_loops(method, usage, videos, length, plan)
        check = program.check(wanted.chip, trips_of)
        bounds = _chunk_bounds(check, wanted, list(method.networks()))
        return InferenceCheck(
            method.title,
            videos,
            length,
            dict(zip(method.choices.names, map(float, usage))),
            check,
            bounds,
            uniform=_every_frame(method, bounds, plan, wanted, videos * length),
            gflops_ratio=_gflops_ratio(method, usage),
        )

    return [at(even if usage is None else usage) for usage in usages]


def expected_loops(
    method: Method[Any, Any],
    usage: np.ndarray,
    videos: int,
    num_frames: int,
    plan: Mapping[str, Chunks] | None = None,
) -> TripsOf:
    """How often the loops over chunks run, where a usage says how many frames each network gets.

    Args:
        method: under its configuration.
        usage: share of frames by choice, [A].
        videos: of one chip.
        num_frames: of a video.
        plan: sizes of chunk by network; where it has none, a loop takes all of a network's frames.
    """
    needed = method.choices.expected(usage, num_frames)

    def trips_of(place: str) -> float | None:
        found = routed_loop(place)
        if found is None or found[0] not in needed:
            return None
        network, size = found
        selected = round(needed[network] * videos)
        return expected_trips(selected, (plan or {}).get(network, (size,))).get(size)

    return trips_of


def _lower(
    method: Method[Any, Any], wanted: Slice, videos: int, num_frames: int, chunks: Chunks | None
) -> jax.stages.Lowered:
    where, size = replicated(describe_devices(wanted, alone=True)), method.image_size

    def placed(x: Any) -> Any:  # A shape in place of an array.
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)

    order = jnp.arange(videos)
    request = Request(
        placed(jax.ShapeDtypeStruct((videos, num_frames, size, size, 3), jnp.uint8)),
        placed(jax.eval_shape(lambda: example_keys(0, order, order))),
    )
    infer = make_inference(method, chunks=chunks, platform="tpu")
    variables = jax.tree.map(placed, method.variable_shapes())
    return infer.lower(variables, request, placed(jax.ShapeDtypeStruct((), jnp.float32)))


def _chunk_bounds(
    check: ChipCheck, wanted: Slice, networks: Sequence[str]
) -> tuple[ChunkBound, ...]:
    """Those of the program's loops, in the order of the networks, larger chunks first."""
    found = []
    for loop in check.loops:
        where = routed_loop(loop.place)
        if where is not None:
            roofline = Roofline.of(loop.work, wanted.chip)
            found.append(ChunkBound(*where, loop.trips, loop.work, roofline))
    return tuple(sorted(found, key=lambda bound: (networks.index(bound.network), -bound.size)))


def _every_frame(
    method: Method[Any, Any],
    bounds: tuple[ChunkBound, ...],
    plan: Mapping[str, Chunks],
    wanted: Slice,
    frames: int,
) -> float | None:
    """The least seconds of the main network on all frames."""
    main = method.main_network()
    name = next(n for n, network in method.networks().items() if network == main)
    own = {bound.size: bound.work for bound in bounds if bound.network == name}
    if not own:
        return None
    trips = expected_trips(frames, plan[name])
    total = sum((own[size] * count for size, count in trips.items()), Work())
    return Roofline.of(total, wanted.chip).seconds


def _gflops_ratio(method: Method[Any, Any], usage: np.ndarray) -> float:
    """GFLOPs over those of the main network on every frame."""
    convention = method.config.gflops_convention
    needed = usage_gflops(method.networks(), method.choices, usage, convention)
    return needed / method.main_network().gflops(convention)
