"""Compiled inference: one jitted function from frames to logits, actions and what they cost.

Decisions, routing, averaging and costs are one program; nothing goes through the host. Under a mesh
every device routes the frames of its own videos. Where a plan says that the device is faster that
way, the host runs the chunks instead, see `inference.buckets`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.costs.cost import total_gflops
from ar_net_jax.inference.buckets import BucketedFunction
from ar_net_jax.inference.chunks import plan_chunks, plan_parts
from ar_net_jax.inference.plan import Form, Plan
from ar_net_jax.methods import Method
from ar_net_jax.modules.frame_runner import Mode, mask_or_ones
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.decide import Argmax, Decide, Forced, GumbelSample
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.ops.routing import Chunks

Array = jax.Array
Routing = Literal["routed", "masked"]
Policy = Literal["argmax", "sample"]

# A hard sample is the same at every temperature.
_SAMPLING_TAU = 1.0


@flax.struct.dataclass
class Request:
    """What to classify.

    Attributes:
        frames: uint8 [B, T, S, S, 3].
        keys: typed PRNG keys [B], of sampled or random decisions.
        frame_mask: bool [B, T], False on padding at the end of a video; None where all have T.
        forced_actions: int32 [B, T], decisions imposed on a steerable method to measure what they
            cost; its policy runs all the same. None leaves them to the policy.
    """

    frames: Array
    keys: Array
    frame_mask: Array | None = None
    forced_actions: Array | None = None


@flax.struct.dataclass
class Result:
    """What a model makes of B videos.

    Attributes:
        logits: float32 [B, C].
        actions: int32 [B, T], the choice made for each frame, an index into the method's
            `choices`; -1 on padding.
        gflops: float32 [B], of each video by the usage formula, in the model's convention.
        calls: by network, how many times each video needed it: float32 [B].
        executed: by network, the frames that it really computed, the filling of last chunks
            included: int32 [D] on D devices, and a scalar in what a `Model` returns.
        gflops_convention: how GFLOPs are counted, `macs` or `paper`.
    """

    logits: Array
    actions: Array
    gflops: Array
    calls: Mapping[str, Array]
    executed: Mapping[str, Array]
    gflops_convention: str = flax.struct.field(pytree_node=False, default="macs")


class Inference(Protocol):
    """What `make_inference` gives: (variables, request, cost_penalty) -> `Result`, jitted."""

    def __call__(self, variables: Any, request: Request, cost_penalty: Array, /) -> Result:
        """Classifies videos."""

    def lower(self, variables: Any, request: Request, cost_penalty: Array, /) -> jax.stages.Lowered:
        """The program for inputs of these shapes, to be compiled."""


def make_inference(
    method: Method[Any, Any],
    *,
    routing: Routing = "routed",
    policy: Policy = "argmax",
    chunks: Chunks | None = None,
    mesh: Mesh | None = None,
    platform: str | None = None,
    random_crops: bool = False,
    plan: Plan | None = None,
) -> Inference:
    """The jitted inference of a model.

    Args:
        method: the method under its configuration.
        routing: `routed` computes chosen frames only; `masked` all networks on all frames.
        policy: `argmax` takes the most likely action, `sample` draws it by the request's keys.
        chunks: sizes of chunk for every network, which go before a plan; the usual ones for the
            platform by default.
        mesh: devices to split the batch over, with the axis `data`; None for one device.
        platform: that it is compiled for, as JAX names it; the present one by default.
        random_crops: draw by the request's keys what a method with the trait `crops` decides.
        plan: measured sizes of chunk and form of execution, see `find_plan`. Over a mesh the form
            is the loop.

    Returns:
        A function (variables, request, cost_penalty) -> `Result`. The penalty is a float scalar,
        see `Method.penalty_offset`; 0 leaves the policy as it was trained.

    Raises:
        UserError: impossible chunks.
    """
    form = _form(routing, chunks, plan, mesh)
    networks, dtype = method.networks(), method.config.dtype
    platform = platform or jax.default_backend()
    sizes = None
    if routing == "routed":
        sizes = plan_chunks(networks, platform, chunks, plan, form, dtype=dtype)
    parts = plan_parts(networks, platform, routing, dtype=dtype)
    infer = inference_function(
        method, policy=policy, chunks=sizes, parts=parts, random_crops=random_crops
    )
    if mesh is not None:
        whole, split = PartitionSpec(), PartitionSpec("data")
        infer = jax.shard_map(
            infer,
            mesh=mesh,
            in_specs=(whole, split, whole),
            out_specs=split,
            # The number of trips of a routing loop differs between devices, which the check of
            # replication cannot follow.
            check_vma=False,
        )
    if form == "buckets" and plan is not None:
        return BucketedFunction(infer, plan)
    return jax.jit(infer)


def _form(routing: Routing, chunks: Chunks | None, plan: Plan | None, mesh: Mesh | None) -> Form:
    if plan is None or routing == "masked" or chunks is not None or mesh is not None:
        return "loop"
    return plan.form


def inference_function(
    method: Method[Any, Any],
    *,
    policy: Policy = "argmax",
    chunks: Mapping[str, Chunks] | None,
    parts: Mapping[str, int] | None = None,
    random_crops: bool = False,
) -> Callable[[Any, Request, Array], Result]:
    """What `make_inference` compiles for one device.

    Args:
        method: as there, like the policy and the crops.
        policy: how decisions are made.
        chunks: sizes of chunk by network, descending; None is the masked form.
        parts: frames that a network which runs on all computes at once, by name; None for all.
        random_crops: whether to draw them.
    """
    module = method.module()

    def infer(variables: Any, request: Request, cost_penalty: Array) -> Result:
        offset = method.penalty_offset(cost_penalty)
        decide = _decide(policy, offset, request.forced_actions)
        mode = Mode(
            keys=request.keys,
            decide=decide,
            chunks=chunks,
            parts=parts,
            random_crops=random_crops,
        )
        prediction = module.apply(variables, request.frames, mode, frame_mask=request.frame_mask)
        return _result(method, cast(Prediction, prediction), request)

    return infer


def _decide(policy: Policy, offset: Array | None, forced: Array | None) -> Decide[Any]:
    if forced is not None:
        return Forced(forced, offset)
    return GumbelSample(_SAMPLING_TAU, offset) if policy == "sample" else Argmax(offset)


def _result(method: Method[Any, Any], prediction: Prediction, request: Request) -> Result:
    mask = mask_or_ones(request.frame_mask, request.frames)
    convention = method.config.gflops_convention
    decisions = prediction.decisions
    actions = jnp.zeros(mask.shape, jnp.int32) if decisions is None else decisions.actions
    if request.forced_actions is not None and decisions is not None:
        # Else the compiler finds that nothing depends on the policy, and leaves it out.
        actions, _ = jax.lax.optimization_barrier((actions, decisions.logits))
    return Result(
        logits=prediction.logits,
        actions=jnp.where(mask, actions, -1),
        gflops=total_gflops(method.networks(), prediction.calls, convention),
        calls=prediction.calls,
        executed={name: count[None] for name, count in prediction.executed.items()},
        gflops_convention=convention,
    )


def make_predict_step(
    method: Method[Any, Any],
    seed: int,
    *,
    routing: Routing = "routed",
    cost_penalty: float = 0.0,
    chunks: Chunks | None = None,
    random_crops: bool = False,
    mesh: Mesh | None = None,
    plan: Plan | None = None,
) -> Callable[[Any, Mapping[str, Array]], Result]:
    """The jitted evaluation of a batch of the data pipeline under the model's own decisions.

    Args:
        method: the method under its configuration.
        seed: of random draws, derived per example.
        routing: as in `make_inference`, like the following.
        cost_penalty: see `Method.penalty_offset`.
        chunks: sizes of chunk for every network.
        random_crops: as in `make_inference`.
        mesh: devices that the batch is split over.
        plan: as in `make_inference`.

    Returns:
        A function (variables, batch) -> `Result`. Where a batch has `forced_actions`, those are
        imposed, as in a `Request`.
    """
    step = _predict_step(type(method), method.config, routing, chunks, random_crops, mesh, plan)
    # As NumPy holds it, an argument is the same on every process.
    given = np.asarray(seed), np.float32(cost_penalty)
    return lambda variables, batch: step(variables, batch, *given)


# One program serves all penalties, seeds and splits: tracing it takes longer than a small split.
@functools.lru_cache(maxsize=8)
def _predict_step(
    kind: type[Method[Any, Any]],
    config: ModelConfig,
    routing: Routing,
    chunks: Chunks | None,
    random_crops: bool,
    mesh: Mesh | None,
    plan: Plan | None,
) -> Callable[[Any, Mapping[str, Array], Any, Any], Result]:
    mesh = None if mesh is None or mesh.size == 1 else mesh
    infer = make_inference(
        kind(config),
        routing=routing,
        chunks=chunks,
        random_crops=random_crops,
        mesh=mesh,
        plan=plan,
    )

    def step(variables: Any, batch: Mapping[str, Array], seed: Any, cost_penalty: Any) -> Result:
        keys = example_keys(seed, jnp.zeros_like(batch["example_id"]), batch["example_id"])
        request = Request(batch["frames"], keys, forced_actions=batch.get("forced_actions"))
        return infer(variables, request, cost_penalty)

    # Buckets are programs of their own, which no other program can hold.
    return step if _form(routing, chunks, plan, mesh) == "buckets" else jax.jit(step)
