"""Operations of convolutions and matrix products in a compiled program."""

import math
import re

import numpy as np

from ar_net_jax.topology.hlo import Array, Instruction


def matrix_flops(each: Instruction, left: Array, right: Array) -> float:
    """Two for each multiply-accumulate; taps on padding, and on zeros between pixels, are none.

    Args:
        each: a `convolution` or `dot`.
        left: what it takes first.
        right: what it takes second, a convolution's kernel.
    """
    if each.opcode == "dot":
        contracted = [int(i) for i in each.field("lhs_contracting_dims").split(",") if i]
        summed = math.prod(left.dims[i] for i in contracted)
        return 2.0 * math.prod(each.shape[0].dims) * summed
    labels = re.match(r"(\w+)_(\w+)->(\w+)", each.field("dim_labels"))
    if labels is None:
        raise ValueError(f"convolution '{each.name}' has no dim_labels")
    images, kernel, result = labels.groups()
    sizes = dict(zip(images, left.dims, strict=True))
    outputs = dict(zip(result, each.shape[0].dims, strict=True))
    kernels = dict(zip(kernel, right.dims, strict=True))
    groups = int(each.field("feature_group_count") or 1)
    batch_groups = int(each.field("batch_group_count") or 1)
    window = dict(re.findall(r"(\w+)=(\S+)", each.field("window")))
    taps = 1
    for axis in (letter for letter in images if letter.isdigit()):
        taps *= _taps(window, int(axis), kernels[axis], sizes[axis], outputs[axis])
    per_tap = sizes["f"] / groups * outputs["f"] * sizes["b"] / batch_groups
    return 2.0 * per_tap * taps


def _taps(window: dict[str, str], axis: int, kernel: int, size: int, output: int) -> int:
    """Pairs of a place in the output and one in the kernel that meet a pixel, along an axis."""

    def part(key: str, default: str) -> str:
        return window[key].split("x")[axis] if key in window else default

    low = int(part("pad", "0_0").split("_")[0])
    stride, spread = int(part("stride", "1")), int(part("lhs_dilate", "1"))
    spacing = int(part("rhs_dilate", "1"))
    place = np.arange(output)[:, None] * stride + np.arange(kernel) * spacing - low
    meets = (place >= 0) & (place % spread == 0) & (place // spread < size)
    return int(np.count_nonzero(meets))
