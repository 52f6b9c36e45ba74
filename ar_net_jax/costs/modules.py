"""GFLOPs of one network for one frame, under a named convention.

`macs`: multiply-accumulates of convolutions and fully connected layers, in 1e9.
`paper`: what AR-Net's tables were made with, also in 1e9. ResNets and MobileNetV2: the same plus 2
for each BatchNorm output element, plus a ResNet's average pool (the counter of the day, thop
0.0.31). EfficientNet: the published figure of the variant times (resolution / 224)^2, although it
was published for the variant's native size, which overstates it. LSTM: 2 x features^2.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax import backbones
from ar_net_jax.backbones.base import Counted
from ar_net_jax.config.model import CONVENTIONS
from ar_net_jax.costs.counting import count_macs
from ar_net_jax.errors import UserError
from ar_net_jax.modules.recurrence import cell_macs


@functools.cache
def _trace(name: str, resolution: int, padding: str) -> Counted:
    backbone = backbones.get(name).module(padding=padding)
    norm_outputs: list[int] = []

    def note_norms(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        out = call(*args, **kwargs)
        if isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__":
            norm_outputs.append(math.prod(out.shape))
        return out

    def run(key: jax.Array, frame: jax.Array) -> jax.Array:
        # Making the parameters needs no product, so one trace serves for both.
        return backbone.init_with_output(key, frame)[0]

    key = jax.eval_shape(jax.random.key, 0)
    frame = jax.ShapeDtypeStruct((1, resolution, resolution, 3), jnp.float32)
    with nn.intercept_methods(note_norms):
        macs = count_macs(run, key, frame)
    return Counted(macs, tuple(norm_outputs))


def backbone_macs(
    name: str, resolution: int, num_classes: int, padding: str = "same", hidden: int = 0
) -> int:
    """Multiply-accumulates of a backbone with its classifier on one frame.

    Args:
        name: of the backbone.
        resolution: side length of the frame in pixels.
        num_classes: outputs of the classifier on the pooled features; 0 for no classifier.
        padding: rule of an EfficientNet's convolutions.
        hidden: units of a layer between features and classifier; 0 for none.

    Raises:
        UserError: no backbone has that name.
    """
    width = backbones.get(name).features
    head = hidden * (width + num_classes) if hidden else width * num_classes
    return _trace(name, resolution, padding).macs + head


def frame_gflops(
    name: str,
    resolution: int,
    num_classes: int,
    convention: str,
    padding: str = "same",
    hidden: int = 0,
) -> float:
    """GFLOPs of a backbone with its classifier on one frame, under a convention.

    Args:
        name: of the backbone.
        resolution: side length of the frame in pixels.
        num_classes: outputs of the classifier; 0 for no classifier.
        convention: 'macs' or 'paper', see the module's docstring.
        padding: rule of an EfficientNet's convolutions; only `macs` depends on it.
        hidden: units of a layer between features and classifier; 0 for none.

    Raises:
        UserError: no such backbone or convention.
    """
    check_convention(convention)

    def count() -> Counted:
        macs = backbone_macs(name, resolution, num_classes, padding, hidden)
        return _trace(name, resolution, padding)._replace(macs=macs)

    if convention == "macs":
        return count().macs / 1e9
    return backbones.get(name).paper_gflops(resolution, count)


def lstm_gflops(feature_dim: int, hidden: int, num_actions: int, convention: str) -> float:
    """GFLOPs of one LSTM step with its decision head.

    Args:
        feature_dim: width of the LSTM's input.
        hidden: its hidden units.
        num_actions: outputs of the decision head; 0 for no head.
        convention: 'macs' counts the cell and the head, 'paper' is 2 x feature_dim^2.

    Raises:
        UserError: no such convention.
    """
    check_convention(convention)
    if convention == "paper":
        return 2 * feature_dim**2 / 1e9
    return (cell_macs(feature_dim, hidden) + hidden * num_actions) / 1e9


def check_convention(convention: str) -> None:
    """Raises UserError unless `convention` is one of `CONVENTIONS`."""
    if convention not in CONVENTIONS:
        raise UserError(
            f"unknown cost convention {convention!r}: choose one of {', '.join(CONVENTIONS)}."
        )
