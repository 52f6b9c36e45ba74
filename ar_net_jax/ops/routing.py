"""Routing in its two forms, which agree up to float rounding.

Masked: every backbone on every frame, weighted by the decisions. Training needs this form, because
the gradient of the video's logits reaches the policy through the one-hot weights. Routed:
`run_selected` computes the chosen frames only, and the rest of the frame logits is zero.
"""

import contextlib
import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

Array = jax.Array
Chunks = tuple[int, ...]
Tree = Any

_TAG = "routed"
_LOOP = re.compile(r"\brouted_(?P<network>[^/]+)/(?:.*/)?chunks_of_(?P<size>\d+)\b")


def network_scope(network: str) -> contextlib.AbstractContextManager[None]:
    """Names what is traced within as the routed form of a network, for `routed_loop`."""
    return jax.named_scope(f"routed_{network}")


def chunk_scope(size: int) -> contextlib.AbstractContextManager[None]:
    """Names a loop over chunks of that many frames, for `routed_loop`."""
    return jax.named_scope(f"chunks_of_{size}")


def routed_loop(place: str) -> tuple[str, int] | None:
    """Which loop over chunks an operation of a compiled program belongs to.

    Args:
        place: names of the scopes around it, such as
            `jit(infer)/routed_224px/chunks_of_64/while`.

    Returns:
        Network and frames in a chunk, or None where it belongs to none.

    >>> routed_loop("jit(infer)/routed_224px/chunks_of_64/while")
    ('224px', 64)
    """
    found = _LOOP.search(place)
    return (found["network"], int(found["size"])) if found else None


class RoutedCount(NamedTuple):
    """What the name of a routed network's count of frames tells, in a traced program.

    Attributes:
        network: its name; empty where it has none.
        chunks: sizes of chunk, descending. There is a loop for each of them, in this order, whose
            condition reads the count and nothing else from outside.
    """

    network: str
    chunks: Chunks

    @property
    def name(self) -> str:
        """As it stands in the program; `parse` reads it.

        >>> RoutedCount("224px", (64, 16)).name
        'routed/64,16/224px'
        """
        return f"{_TAG}/{','.join(map(str, self.chunks))}/{self.network}"

    @classmethod
    def parse(cls, name: str) -> "RoutedCount | None":
        """Reads a name; None where it tells something else.

        >>> RoutedCount.parse("routed/64,16/224px")
        RoutedCount(network='224px', chunks=(64, 16))
        """
        tag, _, rest = name.partition("/")
        sizes, _, network = rest.partition("/")
        return cls(network, tuple(map(int, sizes.split(",")))) if tag == _TAG else None


def expected_trips(selected: int, chunks: Chunks) -> dict[int, int]:
    """How many chunks of each size `run_selected` computes.

    Args:
        selected: number of selected frames.
        chunks: sizes of chunk, descending.

    >>> expected_trips(70, (64, 16))
    {64: 1, 16: 1}
    """
    trips, left = {}, selected
    for size, smaller in zip(chunks, (*chunks[1:], chunks[-1]), strict=True):
        trips[size] = max(0, -(-(left - (size - smaller)) // size))
        left -= size * trips[size]
    return trips


def masked_average(frame_logits: Array, weights: Array) -> Array:
    """The average prediction over the frames that are kept.

    Args:
        frame_logits: float32 [B, T, L, C], every resolution's prediction on every frame.
        weights: float32 [B, T, L], the one-hot decisions restricted to resolutions; the row of a
            skipped frame, or of padding, is zero.

    Returns:
        logits float32 [B, C]: the sum over kept frames divided by max(1, number of kept frames),
        so zeros for a video of which every frame is skipped.
    """
    highest = jax.lax.Precision.HIGHEST
    total = jnp.einsum("btlc,btl->bc", frame_logits, weights, precision=highest)
    kept = jnp.sum(weights, axis=(1, 2))
    # Not `maximum`: at exactly one kept frame that would halve the gradient of the count.
    return total / jnp.where(kept > 0.5, kept, 1.0)[:, None]


def run_selected(
    network: Callable[[Tree], Array],
    frames: Tree,
    selected: Array,
    chunks: Chunks,
    *,
    name: str = "",
) -> tuple[Array, Array]:
    """Runs a network on the selected frames and on no others, within one compiled program.

    The selected frames are brought to the front and taken in chunks of a fixed size, by a loop
    that ends when none is left: shapes are static, so another selection compiles nothing, and
    the time is proportional to the number selected. The rest goes into smaller chunks, unless
    those would compute as many rows as one more large chunk.

    Args:
        network: [n, ...] frames to float32 [n, D]; compiled once for each size of chunk.
        frames: [N, ...], or a tree of such arrays, of which the network gets the same rows.
        selected: bool [N].
        chunks: sizes of chunk, descending.
        name: of the network, for those who read the traced program.

    Returns:
        float32 [N, D], zeros where not selected; and how many rows were computed, the filling of
        last chunks included (int32 scalar, counted by the loops themselves).
    """
    total = selected.shape[0]
    if isinstance(total, int):  # Not so in an export with a symbolic batch.
        chunks = tuple(dict.fromkeys(min(size, total) for size in chunks))
    count = jnp.sum(selected, dtype=jnp.int32)
    # Changes nothing; the form in buckets finds the loops by it.
    count = checkpoint_name(count, RoutedCount(name, chunks).name)
    order = jnp.argsort(~selected, stable=True).astype(jnp.int32)
    # A last chunk may reach beyond the end; frame 0 fills it.
    reach = jnp.concatenate([order, jnp.zeros(chunks[0], jnp.int32)])
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), frames)
    row = jax.eval_shape(network, one)

    def take(state: tuple[Array, Array, Array], size: int) -> tuple[Array, Array, Array]:
        done, computed, found = state
        index = jax.lax.dynamic_slice(reach, (done,), (size,))
        result = network(jax.tree.map(lambda x: jnp.take(x, index, axis=0), frames))
        found = jax.lax.dynamic_update_slice(found, result.astype(jnp.float32), (done, 0))
        return done + size, computed + size, found

    def is_left(state: tuple[Array, Array, Array], limit: int) -> Array:
        return count - state[0] > limit

    zero = jnp.zeros((), jnp.int32)
    state = (zero, zero, jnp.zeros((total + chunks[0], row.shape[1]), jnp.float32))
    for size, smaller in zip(chunks, (*chunks[1:], chunks[-1]), strict=True):
        left_for_smaller = size - smaller
        with chunk_scope(size):
            state = jax.lax.while_loop(
                functools.partial(is_left, limit=left_for_smaller),
                functools.partial(take, size=size),
                state,
            )
    _, computed, found = state
    found = jnp.where(jnp.arange(total)[:, None] < count, found[:total], 0.0)
    return jnp.zeros_like(found).at[order].set(found), computed
