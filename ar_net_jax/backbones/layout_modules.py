"""A layer under its PyTorch name and under its Flax path."""

from typing import Literal, NamedTuple


class Module(NamedTuple):
    """A layer that holds arrays.

    Attributes:
        kind: 'norm' is a BatchNorm.
        source: its PyTorch name, without the array's.
        path: the names of its Flax module from the root.
        bias: whether a convolution or linear layer has one.
    """

    kind: Literal["conv", "depthwise", "linear", "norm"]
    source: str
    path: tuple[str, ...]
    bias: bool = False
