"""AR-Net's training under a fixed policy: a backbone sees only the frames it was chosen for.

Forward and backward pass run over chunks of chosen frames, and over no more of them than hold those
frames. Where the masked form normalises a backbone by all frames of the batch, most of which it
will never see, this form normalises each chunk by its own chosen frames (padding is masked), on
each device by itself. Chosen frames are spread evenly over the chunks, so that none is nearly
empty. The running statistics move once a step, by the mean over chunks weighted by their frames.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from ar_net_jax.modules.frame_runner import Mode, flatten_frames
from ar_net_jax.modules.heads import frame_classifier
from ar_net_jax.modules.multi_backbone import (
    LSTM,
    POLICY,
    MultiBackbone,
    MultiBackboneConfig,
    backbone_name,
)
from ar_net_jax.modules.policy import PolicySteps
from ar_net_jax.modules.prediction import Decisions, Prediction
from ar_net_jax.ops.resize import prepare_frames
from ar_net_jax.ops.rng import per_frame_keys
from ar_net_jax.ops.routing import chunk_scope, network_scope

Array = jax.Array
Tree = Any
# (parameters, statistics, frames [n, ...], keys [n], mask bool [n]) -> (rows float32 [n, D], new
# statistics).
Network = Callable[[Tree, Tree, Array, Array, Array], tuple[Array, Tree]]
# What `run_chosen` gives.
Outputs = tuple[Array, Tree, Array]


def predict_routed(
    model: MultiBackbone,
    variables: Tree,
    frames: Array,
    mode: Mode,
    chunk: int,
    mesh: Mesh | None,
) -> tuple[Prediction, Tree]:
    """What the model makes of videos in training, under decisions without a gradient.

    Args:
        model: AR-Net's module.
        variables: parameters and statistics.
        frames: uint8 [B, T, S, S, 3].
        mode: in training, with keys and the way to decide.
        chunk: frames that a backbone takes at a time.
        mesh: the devices that videos are split over; each routes its own. None for one device.

    Returns:
        The prediction, and the new statistics.
    """
    config = model.config
    (features, steps), updated = model.apply(
        variables, frames, mode, method="decide", mutable=["batch_stats"]
    )
    stats = {**variables.get("batch_stats", {}), **updated.get("batch_stats", {})}
    one_hot = lax.stop_gradient(steps.one_hot)
    rows, executed = [], {}
    for index, network in enumerate(config.names):
        name = backbone_name(index)
        own = {kind: tree[name] for kind, tree in variables.items() if name in tree}
        selected = one_hot[..., index] > 0.5
        found, new = _classify(
            config, index, own, frames, mode.training_keys, selected, chunk, mesh
        )
        if new:
            stats[name] = new
        rows.append(found)
        executed[network] = jnp.sum(selected, dtype=jnp.int32)
    if config.policy.is_action:
        lowest, updated = model.apply(
            {**variables, "batch_stats": stats},
            features[0],
            steps,
            mode.trains(POLICY),
            method=_lowest_rows,
            mutable=["batch_stats"],
        )
        stats = {**stats, **updated.get("batch_stats", {})}
        rows.append(cast(Array, lowest))
    chosen = one_hot[..., : len(config.resolutions)]
    length = jnp.asarray(one_hot.shape[0] * one_hot.shape[1], jnp.int32)
    weighted = [steps.weighted(row) for row in rows]
    logits = model.apply(variables, weighted, chosen, method="video_logits")
    prediction = Prediction(
        logits=cast(Array, logits),
        calls=config.choices.count(one_hot),
        executed={**executed, POLICY: features[1], LSTM: length},
        decisions=Decisions(one_hot, steps.logits),
    )
    return prediction, stats


def _lowest_rows(module: MultiBackbone, features: Array, steps: PolicySteps, train: bool) -> Array:
    return module.policy.lowest_rows(features, steps, train=train)


def _classify(
    config: MultiBackboneConfig,
    index: int,
    variables: Tree,
    frames: Array,
    keys: Array,
    selected: Array,
    chunk: int,
    mesh: Mesh | None,
) -> tuple[Array, Tree]:
    """One backbone's rows float32 [B, T, D] of selected frames, and its new statistics."""
    length = selected.shape[1]
    network = _network_in_training(config, index)
    before = variables.get("batch_stats", {})

    def on_one_device(
        variables: Tree, frames: Array, keys: Array, selected: Array
    ) -> tuple[Array, Tree, Array]:
        logits, total, count = run_chosen(
            network,
            chunk,
            variables["params"],
            variables.get("batch_stats", {}),
            flatten_frames(frames),
            per_frame_keys(keys, length),
            selected.reshape(-1),
        )
        if mesh is not None:
            total, count = lax.psum((total, count), "data")
        return logits.reshape(*selected.shape, -1), total, count

    run = on_one_device
    if mesh is not None:
        rows, whole = PartitionSpec("data"), PartitionSpec()
        run = jax.shard_map(
            on_one_device,
            mesh=mesh,
            in_specs=(whole, rows, rows, rows),
            out_specs=(rows, whole, whole),
            check_vma=False,
        )
    with network_scope(config.names[index]):
        logits, total, count = run(variables, frames, keys, selected)
    stats = jax.tree.map(
        lambda new, old: jnp.where(count > 0, new / jnp.maximum(count, 1), old),
        total,
        before,
    )
    return logits, stats


def _network_in_training(config: MultiBackboneConfig, index: int) -> Network:
    """One backbone with its classifier on a chunk, whose padding its BatchNorms leave out."""
    classifier = frame_classifier(config, config.backbones[index])

    def network(
        params: Tree, stats: Tree, frames: Array, keys: Array, mask: Array
    ) -> tuple[Array, Tree]:
        size = config.resolutions[index]
        x = prepare_frames(frames, size, config.resize, classifier.normalisation)
        with nn.intercept_methods(_masked_statistics(mask)):
            logits, updated = classifier.apply(
                {"params": params, "batch_stats": stats},
                x,
                train=True,
                keys=keys,
                mutable=["batch_stats"],
            )
        return logits, updated.get("batch_stats", {})

    return network


def _masked_statistics(mask: Array) -> Callable[..., Any]:
    """Has every BatchNorm leave the rows where `mask` is False out of its statistics."""

    def intercept(
        next_call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        if isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__":
            rows = mask.reshape(-1, *(1,) * (args[0].ndim - 1))
            kwargs = {**kwargs, "mask": rows}
        return next_call(*args, **kwargs)

    return intercept


@dataclasses.dataclass(frozen=True)
class _Chunks:
    """The selected frames in as few chunks as hold them, none much emptier than another.

    Attributes:
        size: frames that a chunk has room for.
        order: int32 [N], the selected frames first.
        count: int32 scalar, how many are selected.
        needed: int32 scalar, number of chunks.
    """

    size: int
    order: Array
    count: Array
    needed: Array

    @classmethod
    def of(cls, selected: Array, size: int) -> "_Chunks":
        size = min(size, selected.shape[0])
        count = jnp.sum(selected, dtype=jnp.int32)
        order = jnp.argsort(~selected, stable=True).astype(jnp.int32)
        return cls(size, order, count, (count + size - 1) // size)

    def frames_of(self, number: Array) -> tuple[Array, Array]:
        """The frames of a chunk, int32 [size], and which of them are no padding, bool [size]."""
        first, end = (n * self.count // jnp.maximum(self.needed, 1) for n in (number, number + 1))
        place = first + jnp.arange(self.size)
        return self.order[jnp.minimum(place, self.order.shape[0] - 1)], place < end

    def fold(self, body: Callable[[Tree, Array, Array], Tree], start: Tree) -> Tree:
        """`body(state, frames, mask)` over all chunks."""

        def step(loop: tuple[Array, Tree]) -> tuple[Array, Tree]:
            number, state = loop
            return number + 1, body(state, *self.frames_of(number))

        start = (jnp.zeros((), jnp.int32), start)
        with chunk_scope(self.size):
            return lax.while_loop(lambda loop: loop[0] < self.needed, step, start)[1]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def run_chosen(
    network: Network,
    chunk: int,
    params: Tree,
    stats: Tree,
    frames: Array,
    keys: Array,
    selected: Array,
) -> Outputs:
    """Runs a network in training on the selected frames; differentiable in the parameters.

    Forward and backward pass are each a loop over as many chunks as hold the selected frames. The
    backward one computes its chunk again: kept activations would need room for all frames,
    whatever their number.

    Args:
        network: what to run on a chunk.
        chunk: frames in a chunk.
        params: of the network.
        stats: of its BatchNorms before the step.
        frames: [N, ...].
        keys: [N].
        selected: bool [N].

    Returns:
        rows float32 [N, D], zeros where not selected; the statistics after each chunk times the
        number of its frames, summed; and the number of selected frames, int32 scalar.
    """
    chunks = _Chunks.of(selected, chunk)
    total = frames.shape[0]
    some = slice(chunks.size)
    row, _ = jax.eval_shape(network, params, stats, frames[some], keys[some], selected[some])

    def take(state: tuple[Array, Tree], index: Array, mask: Array) -> tuple[Array, Tree]:
        found, sums = state
        logits, new = network(params, stats, frames[index], keys[index], mask)
        # Out of bounds, so that padding is not written back.
        found = found.at[jnp.where(mask, index, total)].set(logits, mode="drop")
        count = jnp.sum(mask)
        return found, jax.tree.map(lambda sum_, x: sum_ + count * x, sums, new)

    nothing = jnp.zeros((total, row.shape[1]), row.dtype), jax.tree.map(jnp.zeros_like, stats)
    found, sums = chunks.fold(take, nothing)
    return found, sums, chunks.count


def _forward(network: Network, chunk: int, *inputs: Tree) -> tuple[Outputs, tuple[Tree, ...]]:
    return run_chosen(network, chunk, *inputs), inputs


def _backward(
    network: Network, chunk: int, inputs: tuple[Tree, ...], grads: Outputs
) -> tuple[Tree, None, None, None, None]:
    params, stats, frames, keys, selected = inputs
    by_frame = grads[0]

    def add(total: Tree, index: Array, mask: Array) -> Tree:
        def logits(params: Tree) -> Array:
            return network(params, stats, frames[index], keys[index], mask)[0]

        _, pull = jax.vjp(logits, params)
        (grad,) = pull(jnp.where(mask[:, None], by_frame[index], 0))
        return jax.tree.map(jnp.add, total, grad)

    start = jax.tree.map(jnp.zeros_like, params)
    # Nothing else is trained: statistics follow from the forward pass.
    return _Chunks.of(selected, chunk).fold(add, start), None, None, None, None


run_chosen.defvjp(_forward, _backward)
