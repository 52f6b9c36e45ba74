"""AR-Net's training under a fixed policy: a backbone sees only the frames it was chosen for.

Forward and backward pass run over chunks of chosen frames; empty chunks are left out. Where the
masked form normalises a backbone by all frames of the batch, most of which it will never see,
this form normalises each chunk by its own chosen frames (padding is masked), on each device by
itself. Chosen frames are spread evenly over the chunks, so that none is nearly empty. The running
statistics move once a step, by the mean over chunks weighted by their frames.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from ar_net_jax.config import ModelConfig
from ar_net_jax.models.ar_net import ARNet
from ar_net_jax.models.classifier import frame_classifier
from ar_net_jax.models.frame_runner import Mode, flatten_frames
from ar_net_jax.models.frames import prepare_frames
from ar_net_jax.models.multi_backbone import backbone_name
from ar_net_jax.models.random import per_frame_keys
from ar_net_jax.models.routing import masked_average

Array = jax.Array
Tree = Any
# (frames [n, ...], keys [n], mask bool [n]) -> (logits float32 [n, C], new statistics).
Network = Callable[[Array, Array, Array], tuple[Array, Tree]]


def predict_routed(
    model: ARNet,
    variables: Tree,
    frames: Array,
    mode: Mode,
    chunk: int,
    mesh: Mesh | None,
    *,
    proposals: Array | None = None,
) -> tuple[Array, Array, Tree]:
    """What the model makes of videos in training, under decisions without a gradient.

    Args:
        model: AR-Net.
        variables: parameters and statistics.
        frames: uint8 [B, T, S, S, 3].
        mode: with `train`, keys, and the temperature where decisions are sampled.
        chunk: frames that a backbone takes at a time.
        mesh: the devices that videos are split over; each routes its own. None for one device.
        proposals: int32 [B, T], decisions imposed instead of the policy's own.

    Returns:
        logits float32 [B, C], one-hot actions float32 [B, T, A], and the new statistics.
    """
    config = model.config
    (features, decisions), updated = model.apply(
        variables, frames, mode, method="decide", mutable=["batch_stats"], proposals=proposals
    )
    stats = {**variables["batch_stats"], **updated["batch_stats"]}
    one_hot = lax.stop_gradient(decisions.one_hot)
    predictions = []
    for index in range(len(config.backbones)):
        name = backbone_name(index)
        own = {kind: tree[name] for kind, tree in variables.items()}
        logits, stats[name] = _classify(
            config, index, own, frames, mode.keys, one_hot[..., index] > 0.5, chunk, mesh
        )
        predictions.append(logits)
    if config.policy.is_action:
        predictions.append(
            model.apply(
                variables,
                features[0],
                decisions,
                method=lambda module, *args: module.policy.lowest_logits(*args),
            )
        )
    chosen = one_hot[..., : len(config.resolutions)]
    return masked_average(jnp.stack(predictions, axis=2), chosen), one_hot, stats


def _classify(
    config: ModelConfig,
    index: int,
    variables: Tree,
    frames: Array,
    keys: Array,
    selected: Array,
    chunk: int,
    mesh: Mesh | None,
) -> tuple[Array, Tree]:
    """One backbone's logits float32 [B, T, C] on selected frames, and its new statistics."""
    batch, length = selected.shape

    def on_one_device(
        variables: Tree, frames: Array, keys: Array, selected: Array
    ) -> tuple[Array, Tree, Array]:
        classifier = frame_classifier(config, index)

        def network(frames: Array, keys: Array, mask: Array) -> tuple[Array, Tree]:
            x = prepare_frames(frames, config.resolutions[index], config.resize)
            with nn.intercept_methods(_masked_statistics(mask)):
                logits, updated = classifier.apply(
                    variables, x, train=True, keys=keys, mutable=["batch_stats"]
                )
            return logits, updated["batch_stats"]

        logits, total, count = run_chosen(
            network,
            flatten_frames(frames),
            per_frame_keys(keys, length),
            selected.reshape(-1),
            chunk,
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
    logits, total, count = run(variables, frames, keys, selected)
    stats = jax.tree.map(
        lambda new, old: jnp.where(count > 0, new / jnp.maximum(count, 1), old),
        total,
        variables["batch_stats"],
    )
    return logits, stats


def _masked_statistics(mask: Array) -> Callable[..., Any]:
    """Has every BatchNorm leave the rows where `mask` is False out of its statistics."""

    def intercept(next_call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        if isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__":
            rows = mask.reshape(-1, *(1,) * (args[0].ndim - 1))
            kwargs = {**kwargs, "mask": rows}
        return next_call(*args, **kwargs)

    return intercept


def run_chosen(
    network: Network, frames: Array, keys: Array, selected: Array, chunk: int
) -> tuple[Array, Tree, Array]:
    """Runs a network in training on the selected frames; can be differentiated in reverse.

    The loop is over as many chunks as all frames would need, because reverse mode wants a fixed
    number, and a condition leaves out the empty ones.

    Args:
        network: what to run on a chunk.
        frames: [N, ...].
        keys: [N].
        selected: bool [N].
        chunk: frames in a chunk.

    Returns:
        logits float32 [N, C], zeros where not selected; the statistics after each chunk times the
        number of its frames, summed; and the number of selected frames, int32 scalar.
    """
    total = frames.shape[0]
    chunk = min(chunk, total)
    count = jnp.sum(selected, dtype=jnp.int32)
    needed = (count + chunk - 1) // chunk
    order = jnp.argsort(~selected, stable=True)
    empty = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype),
        jax.eval_shape(network, frames[:chunk], keys[:chunk], selected[:chunk]),
    )

    def take(stats: Tree, number: Array) -> tuple[Tree, tuple[Array, Array]]:
        first, end = (n * count // jnp.maximum(needed, 1) for n in (number, number + 1))
        place = first + jnp.arange(chunk)
        mask = place < end
        index = order[jnp.minimum(place, total - 1)]
        logits, new = lax.cond(
            number < needed,
            lambda: network(frames[index], keys[index], mask),
            lambda: empty,
        )
        weight = jnp.where(number < needed, end - first, 0)
        stats = jax.tree.map(lambda sum_, x: sum_ + weight * lax.stop_gradient(x), stats, new)
        # Out of bounds, so that padding is not written back.
        return stats, (logits, jnp.where(mask & (number < needed), index, total))

    numbers = jnp.arange(-(-total // chunk))
    stats, (logits, index) = lax.scan(take, empty[1], numbers)
    logits = logits.reshape(-1, logits.shape[-1])
    found = jnp.zeros((total, logits.shape[-1]), logits.dtype)
    return found.at[index.reshape(-1)].set(logits, mode="drop"), stats, count
