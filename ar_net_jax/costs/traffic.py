"""What a network moves through memory for a chunk of frames, as far as its architecture tells."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.costs.counting import list_operations

_LANES = 128


class Traffic(NamedTuple):
    """Of a network on one frame.

    Attributes:
        weights: number of parameters, read once for a chunk of any size.
        outputs: numbers that its convolutions and matrix products give.
        largest: numbers of the largest of those outputs but the first, which is pooled as it is
            made; its channels rounded up to the 128 lanes of a TPU.
        macs: multiply-accumulates.
        operations: convolutions and matrix products.
    """

    weights: int
    outputs: int
    largest: int
    macs: int
    operations: int


@functools.cache
def count_traffic(backbone: str, resolution: int, padding: str = "same") -> Traffic:
    """Counts a backbone's traffic; nothing is computed.

    Args:
        backbone: its name.
        resolution: side of a frame in pixels.
        padding: rule of an EfficientNet's convolutions.

    Raises:
        UserError: no backbone has that name.
    """
    network = backbones.get(backbone).module(padding=padding)
    frame = jax.ShapeDtypeStruct((1, resolution, resolution, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), frame)
    found = list_operations(lambda v, x: network.apply(v, x), variables, frame)
    return Traffic(
        weights=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])),
        outputs=sum(math.prod(op.output_shape) * op.runs for op in found),
        largest=max((_in_lanes(op.output_shape) for op in found[1:]), default=1),
        macs=sum(op.macs for op in found),
        operations=sum(op.runs for op in found),
    )


def _in_lanes(shape: tuple[int, ...]) -> int:
    *pixels, channels = shape
    return math.prod(pixels) * -(-channels // _LANES) * _LANES
