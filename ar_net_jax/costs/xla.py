"""XLA's own count of a network's work, to stand beside the counted multiply-accumulates."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.modules.heads import FrameClassifier


@functools.cache
def xla_gmacs(name: str, resolution: int, num_classes: int, padding: str = "same") -> float | None:
    """Half of the floating-point operations that XLA sees in one frame, in 1e9.

    The program is lowered, but not compiled, as for a TPU, where convolutions have no other form.
    XLA counts a multiply-accumulate as two operations, hence the half. Unlike `frame_gflops` it
    leaves out the taps that fall on padding, and it adds elementwise work: normalisation,
    activations, pooling.

    Args:
        name: of the backbone.
        resolution: side length of the frame in pixels.
        num_classes: outputs of the classifier on the pooled features; 0 for no classifier.
        padding: rule of an EfficientNet's convolutions.

    Returns:
        The figure, or None where the platform at hand has no such analysis.

    Raises:
        UserError: no backbone has that name.
    """
    if num_classes:
        network: nn.Module = FrameClassifier(name, num_classes, dropout=0.0, padding=padding)
    else:
        network = backbones.get(name).module(padding=padding)
    frame = jax.ShapeDtypeStruct((1, resolution, resolution, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), frame)
    traced = jax.jit(network.apply).trace(variables, frame)
    analysis = traced.lower(lowering_platforms=("tpu",)).cost_analysis()
    return analysis["flops"] / 2e9 if analysis and "flops" in analysis else None
