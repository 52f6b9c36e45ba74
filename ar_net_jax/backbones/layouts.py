"""Where each array of a PyTorch state dictionary lives among a backbone's Flax variables."""

from typing import Literal, NamedTuple

import numpy as np

COUNTER = "num_batches_tracked"
"""Last part of a BatchNorm's key that holds how many batches it saw, which nothing here uses."""

Kind = Literal["conv", "depthwise", "linear", "vector", "channels"]


class Layer(NamedTuple):
    """A layer that holds arrays, under its PyTorch name and under its Flax path.

    Attributes:
        kind: 'batch_norm' and 'layer_norm' have scale and shift, 'conv', 'depthwise' and 'linear'
            a kernel; a 'vector' [C] and 'channels' [C, 1, 1] are single arrays, which PyTorch
            names without a `.weight`.
        source: its PyTorch name, without the array's.
        path: the names of its Flax module (or single array) from the root.
        bias: whether a convolution or linear layer has one.
    """

    kind: Literal["conv", "depthwise", "linear", "batch_norm", "layer_norm", "vector", "channels"]
    source: str
    path: tuple[str, ...]
    bias: bool = False


class Layout(NamedTuple):
    """A family of names for a backbone's layers.

    Attributes:
        layers: every layer that holds arrays, but for the classifier.
        classifier: PyTorch name of the classifier on the pooled features, a linear layer.
    """

    layers: tuple[Layer, ...]
    classifier: str


class Entry(NamedTuple):
    """One array under both of its names.

    Attributes:
        source: key in the PyTorch state dictionary.
        collection: of the Flax variables.
        path: names from the root of the collection to the array.
        kind: how the axes are ordered: 'conv' [O, I, h, w] and 'depthwise' [C, 1, h, w] are
            [h, w, I, O] and [h, w, 1, C] in Flax, 'linear' [O, I] is [I, O], 'channels'
            [C, 1, 1] is [C], 'vector' is alike.
    """

    source: str
    collection: Literal["params", "batch_stats"]
    path: tuple[str, ...]
    kind: Kind


def layer_entries(layer: Layer) -> tuple[Entry, ...]:
    """The arrays of one layer."""
    kind, source, path, bias = layer
    if kind == "vector" or kind == "channels":
        return (Entry(source, "params", path, kind),)
    if kind == "batch_norm" or kind == "layer_norm":
        scale = Entry(f"{source}.weight", "params", (*path, "scale"), "vector")
        shift = Entry(f"{source}.bias", "params", (*path, "bias"), "vector")
        if kind == "layer_norm":
            return scale, shift
        mean = Entry(f"{source}.running_mean", "batch_stats", (*path, "mean"), "vector")
        variance = Entry(f"{source}.running_var", "batch_stats", (*path, "var"), "vector")
        return scale, shift, mean, variance
    weight = Entry(f"{source}.weight", "params", (*path, "kernel"), kind)
    if not bias:
        return (weight,)
    return weight, Entry(f"{source}.bias", "params", (*path, "bias"), "vector")


def to_flax(entry: Entry, array: np.ndarray) -> np.ndarray:
    """An array of PyTorch's axis order in Flax's, bits and dtype unchanged.

    >>> to_flax(Entry("fc.weight", "params", ("fc", "kernel"), "linear"), np.zeros((5, 3))).shape
    (3, 5)
    """
    if entry.kind == "vector":
        return array
    if entry.kind == "channels":
        return array[:, 0, 0]
    axes = (1, 0) if entry.kind == "linear" else (2, 3, 1, 0)
    return np.ascontiguousarray(array.transpose(axes))


def from_flax(entry: Entry, array: np.ndarray) -> np.ndarray:
    """The inverse of `to_flax`."""
    if entry.kind == "vector":
        return array
    if entry.kind == "channels":
        return array[:, None, None]
    axes = (1, 0) if entry.kind == "linear" else (3, 2, 0, 1)
    return np.ascontiguousarray(array.transpose(axes))
