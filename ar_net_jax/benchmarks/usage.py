"""Action mixes that a benchmark imposes, so that speed is measured without a trained policy."""

import numpy as np

from ar_net_jax.costs.usage import parse_usage
from ar_net_jax.errors import UserError
from ar_net_jax.ops.actions import ActionSpace

MIXES = {"half": (24, 11, 8, 9, 12), "quarter": (10, 7, 9, 16, 22)}
"""Of 64 frames, how many take each of four resolutions, descending, and how many `skip 1`. With the
paper's ResNets they cost half and a quarter of what Uniform costs."""

# Drawing an order may leave pieces of long skips that fit nowhere; another draw seldom does.
_DRAWS = 100


def read_usage(text: str, space: ActionSpace) -> np.ndarray:
    """The share of frames of each action, float64 [A].

    Args:
        text: a name of `MIXES`, or a number per action: shares that sum to 1, or frame counts.
        space: of the model.

    Raises:
        UserError: a usage that does not fit the actions.
    """
    if text not in MIXES:
        return parse_usage(text, space.names)[0]
    counts = MIXES[text]
    if space.num_resolutions != len(counts) - 1 or 1 not in space.skips:
        raise UserError(
            f"--usage={text}: is a mix of four resolutions and 'skip 1', but the actions here are "
            f"{', '.join(space.names)}; give one number for each"
        )
    shares = np.zeros(space.num_actions)
    shares[: len(counts)] = counts
    return shares / shares.sum()


def impose_usage(
    shares: np.ndarray, space: ActionSpace, batch: int, length: int, seed: int
) -> np.ndarray:
    """Decisions that come to a usage exactly, in random order over all frames of a batch.

    Args:
        shares: [A], rounded to whole frames of the batch.
        space: of the model. A skip stands where all the frames that it covers can follow it in
            their video; only at the end of a video it may be cut short.
        batch: B.
        length: T.
        seed: of the order.

    Returns:
        int32 [B, T], to be imposed as `inference.Request.proposals`.

    Raises:
        UserError: skips too long to come to this usage in videos of so few frames.
    """
    counts = _whole_frames(shares, batch * length)
    spans = np.maximum(space.skip_lengths, 1)
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        proposals = _draw(rng, counts.copy(), spans, batch, length)
        if proposals is not None:
            return proposals
    raise UserError(
        f"--usage: no order of skips in {batch} videos of {length} frames comes to "
        f"{', '.join(f'{c} frames of {n}' for c, n in zip(counts, space.names) if c)}; skips of "
        "F frames need a multiple of F frames"
    )


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
    proposals = np.zeros((batch, length), np.int32)
    for video in proposals:
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
    return proposals
