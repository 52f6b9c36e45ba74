"""A per-frame network over the frames of videos, in the form of execution that is asked for."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax.ops.decide import Argmax, Decide
from ar_net_jax.ops.parts import run_in_parts
from ar_net_jax.ops.resize import Resize, prepare_frames
from ar_net_jax.ops.rng import per_frame_keys
from ar_net_jax.ops.routing import Chunks, network_scope, run_selected

Array = jax.Array
Tree = Any


@flax.struct.dataclass
class Mode:
    """How a call treats the parts of a model; everything is off in evaluation.

    Attributes:
        train: batch statistics and dropout.
        frozen: names of the modules at the model's root that behave as in evaluation although
            `train` is on.
        keys: one key per video [B], needed when `train` is on or decisions are drawn.
        decide: how actions follow from the logits of a decision head.
        random_crops: draw uniformly, by `keys`, which part of a frame a network sees, where the
            method would decide it: what its decision has to beat.
        chunks: sizes of chunk, descending, by network. Given, the routed form computes chosen
            frames only (evaluation); None asks for the masked form.
        parts: by network, how many frames are computed at once in evaluation where all are
            computed; None for all.
    """

    train: bool = flax.struct.field(pytree_node=False, default=False)
    frozen: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())
    keys: Array | None = None
    decide: Decide[Any] = flax.struct.field(default_factory=Argmax)
    random_crops: bool = flax.struct.field(pytree_node=False, default=False)
    chunks: Mapping[str, Chunks] | None = flax.struct.field(pytree_node=False, default=None)
    parts: Mapping[str, int] | None = flax.struct.field(pytree_node=False, default=None)

    def trains(self, module: str) -> bool:
        """Whether the module of that name, at the model's root, is in training."""
        return self.train and module not in self.frozen

    def frame_keys(self, module: str, length: int) -> Array | None:
        """Keys [B * length] of every frame of T = `length`; None where the module trains not."""
        return per_frame_keys(self.training_keys, length) if self.trains(module) else None

    @property
    def training_keys(self) -> Array:
        """The keys, where training needs them.

        Raises:
            ValueError: there are none.
        """
        if self.keys is None:
            raise ValueError("training draws dropout: give mode.keys, one key per video")
        return self.keys


EVALUATION = Mode()
"""No dropout, running statistics, decisions by argmax, masked execution."""


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
    name: str,
    size: int,
    resize: Resize,
    method: str = "__call__",
) -> tuple[Array, Array]:
    """Shrinks frames and runs a network on them: on all, or in the routed form on selected ones.

    One that is not `per_frame` runs on all in both forms, but sees only the selected ones.

    Args:
        network: a bound module at the model's root that maps normalised [N, size, size, 3] to
            float32 [N, D], and has the `normalisation` of its frames; it may have `per_frame`, see
            `Backbone`.
        frames: uint8 [B, T, S, S, 3].
        selected: bool [B, T], what the routed form computes.
        mode: training behaviour and keys, and the form of execution.
        name: of the network, in `mode.chunks`.
        size: side in pixels that the network looks at.
        resize: how frames are shrunk.
        method: of the network.

    Returns:
        float32 [B, T, D], in the routed form zero where not selected; and the number of frames
        computed, int32 scalar.
    """
    prepare = functools.partial(
        prepare_frames, size=size, resize=resize, normalisation=network.normalisation
    )
    return run_prepared(network, prepare, frames, selected, mode, name=name, method=method)


def run_prepared(
    network: nn.Module,
    prepare: Callable[[Tree], Array],
    inputs: Tree,
    selected: Array,
    mode: Mode,
    *,
    name: str,
    method: str = "__call__",
) -> tuple[Array, Array]:
    """Runs a network on what is made of frames: on all, or in the routed form on selected ones.

    Args:
        network: as in `run_on_frames`.
        prepare: from the inputs of N frames, [N, ...] each, to the network's float32
            [N, size, size, 3]; in the routed form it too runs on selected ones only.
        inputs: a tree of arrays [B, T, ...].
        selected: bool [B, T], what the routed form computes.
        mode: training behaviour and keys, and the form of execution.
        name: of the network, in `mode.chunks`.
        method: of the network.

    Returns:
        As `run_on_frames`.
    """
    batch, length = selected.shape
    flat = jax.tree.map(flatten_frames, inputs)
    videos: dict[str, Any] = {}
    if not getattr(network, "per_frame", True):
        videos = {"num_frames": length, "frame_mask": selected.reshape(-1)}
    everything = jnp.asarray(batch * length, jnp.int32)
    if videos or (mode.chunks is None and mode.parts is None):
        assert network.name is not None  # A bound module has one.
        keys, trains = mode.frame_keys(network.name, length), mode.trains(network.name)
        result = getattr(network, method)(prepare(flat), train=trains, keys=keys, **videos)
        return result.reshape(batch, length, -1), everything
    # A loop's body must not touch the surrounding module, so it gets a stateless copy.
    module, variables = network.unbind()

    def run(chunk: Tree) -> Array:
        return cast(Array, module.apply(variables, prepare(chunk), method=method))

    if mode.chunks is None:
        assert mode.parts is not None
        result = run_in_parts(run, flat, mode.parts[name])
        return result.reshape(batch, length, -1), everything
    with network_scope(name):
        result, computed = run_selected(
            run, flat, selected.reshape(-1), mode.chunks[name], name=name
        )
    return result.reshape(batch, length, -1), computed
