"""A per-frame network over the frames of videos, in the form of routing that is asked for."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax.ops.resize import Resize, prepare_frames
from ar_net_jax.ops.rng import per_frame_keys
from ar_net_jax.ops.routing import Chunks, run_selected

Array = jax.Array


@flax.struct.dataclass
class Mode:
    """How a call treats the parts of a model; everything is off in evaluation.

    Attributes:
        train: batch statistics and dropout of the backbones.
        train_policy: the same of the policy network.
        keys: one key per video [B], needed when either of the two is on or decisions are sampled.
        tau: temperature of sampled decisions; None decides by argmax.
        offsets: float32 [A], added to the decision head's logits: favouring cheap actions saves
            computation without retraining. None for none.
        chunks: sizes of chunk, descending, for each of `config.backbones` and for the policy's
            extractor. Given, the routed form computes chosen frames only (evaluation); None asks
            for the masked form.
    """

    train: bool = flax.struct.field(pytree_node=False, default=False)
    train_policy: bool = flax.struct.field(pytree_node=False, default=False)
    keys: Array | None = None
    tau: Array | float | None = None
    offsets: Array | None = None
    chunks: tuple[Chunks, ...] | None = flax.struct.field(pytree_node=False, default=None)


EVALUATION = Mode()
"""No dropout, running statistics, decisions by argmax, masked routing."""


def mask_or_ones(frame_mask: Array | None, frames: Array) -> Array:
    """The frame mask bool [B, T], all True where none is given."""
    return jnp.ones(frames.shape[:2], bool) if frame_mask is None else frame_mask


def flatten_frames(frames: Array) -> Array:
    """[B, T, ...] -> [B * T, ...]."""
    return frames.reshape(-1, *frames.shape[2:])


def run_on_frames(
    network: nn.Module,
    frames: Array,
    selected: Array,
    mode: Mode,
    *,
    index: int,
    size: int,
    resize: Resize,
    method: str = "__call__",
) -> tuple[Array, Array]:
    """Shrinks frames and runs a network on them: on all, or in the routed form on selected ones.

    Args:
        network: a bound module that maps normalised [N, size, size, 3] to float32 [N, D].
        frames: uint8 [B, T, S, S, 3].
        selected: bool [B, T], what the routed form computes.
        mode: training behaviour and keys, and the form of routing.
        index: its place in `mode.chunks`.
        size: side in pixels that the network looks at.
        resize: how frames are shrunk.
        method: of the network.

    Returns:
        float32 [B, T, D], in the routed form zero where not selected; and the number of frames
        computed, int32 scalar.
    """
    batch, length = frames.shape[:2]
    flat = flatten_frames(frames)
    if mode.chunks is None:
        keys = per_frame_keys(mode.keys, length) if mode.train else None
        x = prepare_frames(flat, size, resize)
        result = getattr(network, method)(x, train=mode.train, keys=keys)
        return result.reshape(batch, length, -1), jnp.asarray(flat.shape[0], jnp.int32)
    # A loop's body must not touch the surrounding module, so it gets a stateless copy.
    module, variables = network.unbind()

    def run(chunk: Array) -> Array:
        return module.apply(variables, prepare_frames(chunk, size, resize), method=method)

    result, computed = run_selected(run, flat, selected.reshape(-1), mode.chunks[index])
    return result.reshape(batch, length, -1), computed
