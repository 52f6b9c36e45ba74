"""A network of a model: where its variables are, what it is made of, what one call of it costs."""

import functools
from dataclasses import dataclass

from ar_net_jax.config.model import Convention
from ar_net_jax.costs.modules import frame_gflops, lstm_gflops


@dataclass(frozen=True)
class Recurrence:
    """Sizes of an LSTM and of the linear layer on its hidden state.

    Attributes:
        inputs: D, width of its input.
        hidden: H, its units.
        outputs: of the linear layer; 0 where that is not charged, or not there.
    """

    inputs: int
    hidden: int
    outputs: int = 0


@dataclass(frozen=True)
class Network:
    """One of the networks that a model is made of, the unit in which its work is counted.

    Attributes:
        path: names from the root of the variables to the network's module.
        children: the modules below `path` that belong to it; empty for all.
        backbone: name of its architecture; empty for a network that takes no frames.
        resolution: side in pixels of the frames that it takes; 0 for one that takes none.
        outputs: of the classifier on its features that every call runs; 0 for none.
        hidden: units of a layer between features and classifier, run and counted with it; 0 for
            none.
        recurrence: sizes of a recurrent network; None for others.
        macs: multiply-accumulates of a call of a network that neither a backbone nor `recurrence`
            describes.
        heads: names of its Linear layers, which train at the head's learning rate.
        padding: rule of an EfficientNet's convolutions, which decides what they cost.
        charged: False for a network whose result nothing uses.
        method: of the module at `path`, that maps frames to what `outputs` counts.
    """

    path: tuple[str, ...]
    children: tuple[str, ...] = ()
    backbone: str = ""
    resolution: int = 0
    outputs: int = 0
    hidden: int = 0
    recurrence: Recurrence | None = None
    macs: int = 0
    heads: tuple[str, ...] = ()
    padding: str = "same"
    charged: bool = True
    method: str = "__call__"

    def gflops(self, convention: Convention) -> float:
        """GFLOPs of one call on one frame, with its classifier or decision head."""
        return _gflops(self, convention)


@functools.cache
def _gflops(network: Network, convention: Convention) -> float:
    if network.macs:
        return network.macs / 1e9
    if network.recurrence is not None:
        sizes = network.recurrence
        return lstm_gflops(sizes.inputs, sizes.hidden, sizes.outputs, convention)
    return frame_gflops(
        network.backbone,
        network.resolution,
        network.outputs,
        convention,
        network.padding,
        network.hidden,
    )
