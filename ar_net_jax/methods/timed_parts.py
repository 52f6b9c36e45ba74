"""Parts of a model that can be run, and timed, by themselves."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.costs.network import Network
from ar_net_jax.modules.frame_runner import Mode, run_on_frames
from ar_net_jax.ops.resize import Resize

Array = jax.Array


@dataclass(frozen=True)
class TimedPart:
    """A part of a model.

    Attributes:
        run: (module, given, actions, mode) -> arrays, a pure function of a bound module of the
            method; `actions` int32 [B, T] are the choices made, `mode` the form of execution.
        after: name of the part whose result is `given`; empty for the frames, uint8
            [B, T, S, S, 3].
    """

    run: Callable[[nn.Module, Any, Array, Mode], Any]
    after: str = ""


def network_part(
    name: str, network: Network, calls: tuple[float, ...], resize: Resize
) -> TimedPart:
    """A network on the frames that it is called for, with the resize and the routing.

    Args:
        name: of the network.
        network: one that takes frames.
        calls: how often it runs per frame of each choice.
        resize: how frames are shrunk.
    """
    return TimedPart(functools.partial(_run_network, name, network, calls, resize))


def _run_network(
    name: str,
    network: Network,
    calls: tuple[float, ...],
    resize: Resize,
    module: nn.Module,
    frames: Array,
    actions: Array,
    mode: Mode,
) -> Array:
    called = jnp.asarray(np.array(calls) > 0)
    return run_on_frames(
        functools.reduce(getattr, network.path, module),
        frames,
        called[actions],
        mode,
        name=name,
        size=network.resolution,
        resize=resize,
        method=network.method,
    )[0]
