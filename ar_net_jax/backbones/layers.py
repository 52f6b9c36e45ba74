"""What all backbones are made of: convolution, BatchNorm, and how a block is run."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from ar_net_jax.ops.conv_cpu import flax_convolution
from ar_net_jax.ops.depthwise import Padding
from ar_net_jax.ops.temporal_shift import temporal_shift

KAIMING_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. 2015, as torchvision initialises its convolutions."""
MOMENTUM, EPSILON = 0.9, 1e-5
"""Of a BatchNorm, as torchvision has them."""


def symmetric_padding(kernel: int) -> Padding:
    """Zeros alike on both sides; with stride 2 XLA's "SAME" would sample other pixels."""
    side = (kernel - 1) // 2
    return ((side, side), (side, side))


def conv(
    features: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: Padding | None = None,
    use_bias: bool = False,
    kernel_init: nn.initializers.Initializer = KAIMING_FAN_OUT,
    dtype: DTypeLike,
    name: str,
) -> nn.Conv:
    """A square convolution, to be called within a compact method.

    Args:
        features: output channels.
        kernel: side length of the kernel.
        stride: the same for rows and columns.
        padding: zeros before and after, for rows and columns; None pads symmetrically.
        use_bias: adds a bias that starts at zero.
        kernel_init: initialiser of the kernel.
        dtype: of the computation.
        name: of the submodule.
    """
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding=padding or symmetric_padding(kernel),
        use_bias=use_bias,
        kernel_init=kernel_init,
        dtype=dtype,
        conv_general_dilated=flax_convolution,
        name=name,
    )


def batch_norm(
    *,
    train: bool,
    dtype: DTypeLike,
    name: str,
    momentum: float = MOMENTUM,
    epsilon: float = EPSILON,
) -> nn.BatchNorm:
    """BatchNorm over all axes but the channels, to be called within a compact method.

    Args:
        train: normalise by the batch and update the running statistics.
        dtype: of the result; statistics are computed and kept in float32.
        name: of the submodule.
        momentum: weight of the old running statistics, 1 minus what PyTorch calls momentum.
        epsilon: added to the variance.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=momentum,
        epsilon=epsilon,
        dtype=dtype,
        name=name,
    )


def run_block(block: nn.Module, x: jnp.ndarray, *, remat: bool, **inputs: Any) -> jnp.ndarray:
    """Calls a block of a network within a compact method.

    Args:
        block: the module.
        x: what enters it.
        remat: keep only `x` for the backward pass, and compute the rest of the block again there.
        **inputs: further arguments of the block.
    """
    if not remat:
        return block(x, **inputs)
    return nn.remat(lambda module, x: module(x, **inputs))(block, x)


Shift = Callable[[jnp.ndarray], jnp.ndarray]
"""What a block does to its input before its first convolution; the shortcut is left as it is."""


def shift_of(shift_div: int, num_frames: int, frame_mask: jnp.ndarray | None) -> Shift | None:
    """The temporal shift of a network's blocks; None where `shift_div` is 0.

    Args:
        shift_div: as in `temporal_shift`, like the following.
        num_frames: T.
        frame_mask: bool [N], or None.
    """
    if not shift_div:
        return None
    return functools.partial(
        temporal_shift, num_frames=num_frames, shift_div=shift_div, frame_mask=frame_mask
    )


def global_average(x: jnp.ndarray) -> jnp.ndarray:
    """Means over rows and columns: [N, H, W, C] of any dtype to float32 [N, C]."""
    if x.dtype == jnp.bfloat16:
        # From 0.11 on, up to 0.12.0 at least, jaxlib's CPU compiler fuses this sum with the last
        # convolutions, if a ReLU stands before one, and reads memory that nothing wrote: NaN.
        x = lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda x: x)
    return jnp.mean(x, (1, 2), dtype=jnp.float32)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Rounds a channel count to a multiple of `divisor`, never losing more than a tenth of it.

    MobileNetV2 and EfficientNet share this rule.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
