"""Compiled inference: one jitted function from frames to logits, actions and what they cost.

Decisions, routing, averaging and costs are one program; nothing goes through the host. Under a mesh
every device routes the frames of its own videos.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from ar_net_jax.config.config import ModelConfig
from ar_net_jax.costs.model_costs import model_cost_table
from ar_net_jax.costs.tables import CostTable
from ar_net_jax.inference.chunks import plan_chunks
from ar_net_jax.methods.registry import build_model
from ar_net_jax.modules.frame_runner import Mode, mask_or_ones
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
        proposals: int32 [B, T], decisions imposed on AR-Net to measure what they cost; its policy
            runs all the same. None leaves them to the policy.
    """

    frames: Array
    keys: Array
    frame_mask: Array | None = None
    proposals: Array | None = None


@flax.struct.dataclass
class Answer:
    """What came out.

    Attributes:
        logits: float32 [B, C].
        actions: int32 [B, T], -1 on padding.
        gflops: float32 [B], of each video by the usage formula, in the model's convention.
        computed: int32 [D, K] or [D, K + 1], the frames that each of `config.backbones` and then
            the policy's extractor, where there is one, computed on each of D devices; the filling
            of last chunks included.
    """

    logits: Array
    actions: Array
    gflops: Array
    computed: Array


Inference = Callable[[Any, Request, Array], Answer]


def make_inference(
    config: ModelConfig,
    *,
    routing: Routing = "routed",
    policy: Policy = "argmax",
    chunks: Chunks | None = None,
    mesh: Mesh | None = None,
    platform: str | None = None,
) -> Inference:
    """The jitted inference of a model.

    Args:
        config: the model.
        routing: `routed` computes chosen frames only; `masked` all backbones on all frames.
        policy: `argmax` takes the most likely action, `sample` draws it by the request's keys.
        chunks: sizes of chunk for every backbone; measured ones for the platform by default.
        mesh: devices to split the batch over, with the axis `data`; None for one device.
        platform: that it is compiled for, as JAX names it; the present one by default.

    Returns:
        A function (variables, request, cost_penalty) -> `Answer`. The penalty is a float scalar,
        see `penalty_offsets`; 0 leaves the policy as it was trained.

    Raises:
        UserError: impossible chunks.
    """
    model = build_model(config)
    table = model_cost_table(config)
    ladder = None
    if routing == "routed":
        ladder = plan_chunks(config, platform or jax.default_backend(), chunks)

    def infer(variables: Any, request: Request, cost_penalty: Array) -> Answer:
        offsets = None
        if config.approach == "ar_net":
            offsets = penalty_offsets(table, cost_penalty)
        tau = _SAMPLING_TAU if policy == "sample" else None
        mode = Mode(keys=request.keys, tau=tau, offsets=offsets, chunks=ladder)
        imposed = {}
        if request.proposals is not None:
            imposed["proposals"] = request.proposals
        prediction = model.apply(
            variables, request.frames, mode, frame_mask=request.frame_mask, **imposed
        )
        actions = prediction.actions
        if imposed:
            # Else the compiler finds that nothing depends on the policy, and leaves it out.
            actions, _ = jax.lax.optimization_barrier((actions, prediction.policy_logits))
        return Answer(
            logits=prediction.logits,
            actions=jnp.where(mask_or_ones(request.frame_mask, request.frames), actions, -1),
            gflops=video_gflops(table, prediction.one_hot),
            computed=prediction.computed[None],
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
    return jax.jit(infer)


def make_predict_step(
    config: ModelConfig,
    seed: int,
    *,
    routing: Routing = "routed",
    cost_penalty: float = 0.0,
    chunks: Chunks | None = None,
    mesh: Mesh | None = None,
) -> Callable[[Any, dict[str, Array]], dict[str, Array]]:
    """The jitted evaluation of a batch of the data pipeline under the model's own decisions.

    Args:
        config: the model.
        seed: of the random policy's draws, derived per example.
        routing: as in `make_inference`, like the following.
        cost_penalty: see `penalty_offsets`.
        chunks: sizes of chunk for every backbone.
        mesh: devices that the batch is split over.

    Returns:
        A function (variables, batch) -> `logits`, `actions` and `computed` as in `Answer`.
    """
    alone = mesh is None or mesh.size == 1
    infer = make_inference(config, routing=routing, chunks=chunks, mesh=None if alone else mesh)

    def step(variables: Any, batch: dict[str, Array]) -> dict[str, Array]:
        keys = example_keys(seed, jnp.zeros_like(batch["example_id"]), batch["example_id"])
        answer = infer(variables, Request(batch["frames"], keys), jnp.float32(cost_penalty))
        return {
            "logits": answer.logits,
            "actions": answer.actions,
            "computed": answer.computed,
        }

    return jax.jit(step)


def penalty_offsets(table: CostTable, penalty: Array | float) -> Array:
    """Offsets on the decision head's logits that make costly actions less likely.

    Every action's logit falls by `penalty` times its cost, policy included, as a share of the
    costliest action's: the costliest loses `penalty`, a skip of many frames next to nothing. With
    no retraining it moves a model along its curve of accuracy against computation.

    Args:
        table: costs of the model's actions.
        penalty: in units of logits; negative favours costly actions.

    Returns:
        float32 [A].
    """
    costs = np.asarray(table.actions) + (table.policy + table.lstm) * np.asarray(
        table.policy_visits
    )
    return -jnp.asarray(costs / costs.max(), jnp.float32) * penalty


def video_gflops(table: CostTable, one_hot: Array) -> Array:
    """GFLOPs of each video, float32 [B], from its decisions [B, T, A], zero on padding."""
    if len(table.actions) == 1:
        # One cost for the whole frame, whatever number of resolutions is computed on it.
        return table.per_video(jnp.ones(1), jnp.sum(jnp.max(one_hot, -1), -1))
    return table.per_frame(jnp.sum(one_hot, axis=1))
