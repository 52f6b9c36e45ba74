"""What a model costs: how often each of its networks is called, times the GFLOPs of a call.

This is the one place where calls become GFLOPs: needed or executed, per choice, frame or video, for
whatever method.
"""

from collections.abc import Mapping
from typing import TypeVar

import jax
import numpy as np

from ar_net_jax.config.model import Convention
from ar_net_jax.costs.network import Network
from ar_net_jax.ops.actions import Choices

Networks = Mapping[str, Network]
Count = TypeVar("Count", float, np.ndarray, jax.Array)


def total_gflops(networks: Networks, calls: Mapping[str, Count], convention: Convention) -> Count:
    """GFLOPs of calls: the sum over networks of calls times GFLOPs of one.

    Args:
        networks: of the model, by name.
        calls: how often each of them is called, by name: numbers or arrays of one shape.
        convention: `macs` or `paper`.

    Returns:
        Of the kind and shape that the calls are.
    """
    charged = {name: n.gflops(convention) for name, n in networks.items() if n.charged}
    return sum(calls[name] * cost for name, cost in charged.items() if name in calls)  # type: ignore[return-value]


def choice_gflops(
    networks: Networks, choices: Choices, convention: Convention, *, overhead: bool = True
) -> np.ndarray:
    """GFLOPs of a frame spent in each choice, float64 [A].

    Args:
        networks: of the model.
        choices: what it may decide about a frame.
        convention: `macs` or `paper`.
        overhead: False leaves out what deciding costs, as the efficiency loss does (eq. 10).
    """
    left_out = () if overhead else choices.overhead
    calls = {n: np.array(per) for n, per in choices.calls.items() if n not in left_out}
    return np.zeros(len(choices)) + total_gflops(networks, calls, convention)


def usage_gflops(
    networks: Networks,
    choices: Choices,
    usage: np.ndarray,
    convention: Convention,
    num_frames: float = 1,
) -> float:
    """GFLOPs of a video, or of a mean frame, of which a given share went to each choice.

    Args:
        networks: of the model.
        choices: what it may decide about a frame.
        usage: [A], shares that sum to 1.
        convention: `macs` or `paper`.
        num_frames: of the video.
    """
    return total_gflops(networks, choices.expected(usage, num_frames), convention)
