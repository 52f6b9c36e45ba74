"""Action mixes that a benchmark imposes, so that speed is measured without a trained policy."""

from typing import Any

import numpy as np

from ar_net_jax.costs.usage import parse_usage
from ar_net_jax.errors import UserError
from ar_net_jax.methods import Method
from ar_net_jax.ops.actions import Choices

MIXES = {"half": (24, 11, 8, 9, 12), "quarter": (10, 7, 9, 16, 22)}
"""Of 64 frames, how many take each of the four first choices, such as resolutions, and how many the
fifth, such as `skip 1`. With the paper's ResNets they cost half and a quarter of Uniform; for
other choices there are mixes of such a cost, see `read_usage`."""
_COST = {"half": 0.5, "quarter": 0.25}

# Drawing an order may leave pieces of long skips that fit nowhere; another draw seldom does.
_DRAWS = 100


def read_usage(text: str, method: Method[Any, Any]) -> np.ndarray:
    """The share of frames of each choice, float64 [A].

    Args:
        text: `half` or `quarter`, or a number per choice: shares that sum to 1, or frame counts.
        method: under its configuration.

    Raises:
        UserError: a usage that does not fit the choices.
    """
    choices = method.choices
    if text not in MIXES:
        return parse_usage(text, choices.names)[0]
    counts = MIXES[text]
    if _lengths(choices)[: len(counts)].tolist() != [0, 0, 0, 0, 1]:
        uniform = method.main_network().gflops(method.config.gflops_convention)
        return _mix_of_cost(method, _COST[text] * uniform)
    shares = np.zeros(len(choices))
    shares[: len(counts)] = counts
    return shares / shares.sum()


def _mix_of_cost(method: Method[Any, Any], gflops: float) -> np.ndarray:
    """Shares of the choices, float64 [A], at a mean cost per frame, or as near as they come to it.

    All choices alike, and the costliest or the cheapest of them more. As in the paper's mixes there
    are no skips of several frames, which do not fit into videos of any length.
    """
    usual = _lengths(method.choices) <= 1
    costs = method.choice_gflops()
    alike = usual / usual.sum()
    mean = float(alike @ costs)
    end = int(np.argmax(costs) if mean < gflops else np.argmin(np.where(usual, costs, np.inf)))
    if costs[end] == mean:
        return alike
    weight = np.clip((gflops - mean) / (costs[end] - mean), 0.0, 1.0)
    return (1 - weight) * alike + weight * np.eye(len(costs))[end]


def impose_usage(
    shares: np.ndarray, choices: Choices, batch: int, length: int, seed: int
) -> np.ndarray:
    """Decisions that come to a usage exactly, in random order over all frames of a batch.

    Args:
        shares: [A], rounded to whole frames of the batch.
        choices: of the method. A skip stands where all the frames that it covers can follow it in
            their video; only at the end of a video it may be cut short.
        batch: B.
        length: T.
        seed: of the order.

    Returns:
        int32 [B, T], to be imposed as `Request.forced_actions`.

    Raises:
        UserError: skips too long to come to this usage in videos of so few frames.
    """
    counts = _whole_frames(shares, batch * length)
    spans = np.maximum(_lengths(choices), 1)
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        actions = _draw(rng, counts.copy(), spans, batch, length)
        if actions is not None:
            return actions
    raise UserError(
        f"--usage: no order of skips in {batch} videos of {length} frames comes to "
        f"{', '.join(f'{c} frames of {n}' for c, n in zip(counts, choices.names) if c)}; skips of "
        "F frames need a multiple of F frames"
    )


def _lengths(choices: Choices) -> np.ndarray:
    """How many frames each choice leaves out, int [A]."""
    return np.array(choices.skip_lengths or (0,) * len(choices))


def _whole_frames(shares: np.ndarray, total: int) -> np.ndarray:
    """Frame counts, int [A], that sum to `total`; the largest remainders are rounded up."""
    exact = shares * total
    counts = np.floor(exact + 1e-9).astype(int)
    missing = total - counts.sum()
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return counts


def _draw(
    rng: np.random.Generator, left: np.ndarray, spans: np.ndarray, batch: int, length: int
) -> np.ndarray | None:
    """One order, or None where skips were left over that fit nowhere; uses up `left`."""
    actions = np.zeros((batch, length), np.int32)
    for video in actions:
        start = 0
        while start < length:
            room = length - start
            whole = (left >= spans) & (spans <= room)
            fitting = whole if whole.any() else left >= np.minimum(spans, room)
            if not fitting.any():
                return None
            weights = np.where(fitting, left / spans, 0.0)
            action = rng.choice(len(left), p=weights / weights.sum())
            taken = min(spans[action], room)
            video[start : start + taken] = action
            left[action] -= taken
            start += taken
    return actions
