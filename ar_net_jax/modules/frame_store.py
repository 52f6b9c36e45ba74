"""Features of the frames that a method has looked at so far, for methods that look step by step."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.modules.frame_runner import Mode, run_on_frames
from ar_net_jax.modules.heads import FrameClassifier
from ar_net_jax.ops.resize import Resize

Array = jax.Array


@flax.struct.dataclass
class FrameStore:
    """What is known of the frames of B videos.

    Attributes:
        rows: float32 [B, T, D], zero where nothing is known.
        known: bool [B, T].
        computed: rows that the network has computed, filling included: int32 scalar.
    """

    rows: Array
    known: Array
    computed: Array


@dataclass(frozen=True)
class FrameReader:
    """Fills a `FrameStore` by a network, within the body of a loop, each frame once.

    Attributes:
        network: without variables, since a loop's body must not touch the surrounding module.
        variables: of the network.
        frames: uint8 [B, T, S, S, 3].
        mode: of the routed form.
        name: of the network, in `mode.chunks`.
        size: side in pixels that it looks at.
        resize: how frames are shrunk.
        width: D, of the features.
    """

    network: nn.Module
    variables: Any
    frames: Array
    mode: Mode
    name: str
    size: int
    resize: Resize
    width: int

    @classmethod
    def of(
        cls,
        network: FrameClassifier,
        frames: Array,
        mode: Mode,
        *,
        name: str,
        size: int,
        resize: Resize,
        at_once: int,
    ) -> Self:
        """A reader by the features of a bound classifier.

        Args:
            network: the classifier.
            frames: see the attributes, like the rest.
            mode: of the routed form.
            name: of the network.
            size: of the frames that it takes.
            resize: how frames are shrunk.
            at_once: how many frames a look wants at most; larger chunks would only be filled up.
        """
        assert mode.chunks is not None
        if isinstance(at_once, int):  # Not so in an export with a symbolic batch.
            chunks = tuple(dict.fromkeys(min(chunk, at_once) for chunk in mode.chunks[name]))
            mode = dataclasses.replace(mode, chunks={name: chunks})
        stateless, variables = network.unbind()
        width = backbones.get(network.architecture).features
        return cls(stateless, variables, frames, mode, name, size, resize, width)

    def empty(self) -> FrameStore:
        """The store before the first look."""
        shape = self.frames.shape[:2]
        rows = jnp.zeros((*shape, self.width), jnp.float32)
        return FrameStore(rows, jnp.zeros(shape, bool), jnp.zeros((), jnp.int32))

    def read(self, store: FrameStore, wanted: Array) -> FrameStore:
        """The store after a look at some frames; those that it knows are not computed again.

        Args:
            store: before.
            wanted: bool [B, T].
        """
        found, computed = run_on_frames(
            self.network.bind(self.variables),
            self.frames,
            wanted & ~store.known,
            self.mode,
            name=self.name,
            size=self.size,
            resize=self.resize,
            method="features",
        )
        return FrameStore(store.rows + found, store.known | wanted, store.computed + computed)


def rows_at(rows: Array, places: Array) -> Array:
    """Rows float32 [B, N, D] of the frames at `places` int32 [B, N], of rows [B, T, D]."""
    return jnp.take_along_axis(rows, places[..., None], axis=1)


def places_mask(places: Array, counted: Array, length: int) -> Array:
    """Which of T frames are at one of `places` int32 [B, N] that is `counted` bool [B, N].

    Args:
        places: the frames' indices.
        counted: False leaves a place out.
        length: T.

    Returns:
        bool [B, T].
    """
    return jnp.any((places[..., None] == jnp.arange(length)) & counted[..., None], axis=1)
