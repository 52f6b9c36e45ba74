"""Ending a video early once a classifier's confidence, its largest probability, is high enough."""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

# No confidence is that high.
_NEVER = 2.0


def confidence(logits: Array) -> Array:
    """The largest probability, [...] of logits [..., C]."""
    return jnp.max(jax.nn.softmax(logits, axis=-1), axis=-1)


def at_steps(thresholds: tuple[float, ...], steps: int) -> np.ndarray:
    """The confidence that ends a video at each step, float32 [steps]; none at the last.

    Args:
        thresholds: of each step; the last one holds for all further steps.
        steps: at least 1.
    """
    index = np.minimum(np.arange(steps), len(thresholds) - 1)
    found = np.array(thresholds, np.float32)[index]
    found[-1] = _NEVER
    return found


def exit_thresholds(confidences: np.ndarray, growth: float) -> tuple[float, ...]:
    """Thresholds by which a given share of videos ends at each step.

    The share that ends at step k is proportional to growth ** k: the smaller `growth`, the earlier
    videos end and the less they cost. At each step those end that are the most confident among the
    videos still there, as in Huang et al. 2018.

    Args:
        confidences: [N, T], of videos that were not ended, such as the training videos.
        growth: above 0.

    Returns:
        T thresholds, that of the last step included, which ends whatever is left (0).

    >>> exit_thresholds(np.array([[0.9, 0.9], [0.2, 0.8], [0.6, 0.7], [0.5, 0.6]]), 1.0)
    (0.6, 0.0)
    """
    count, steps = confidences.shape
    # In logarithms: powers of many steps overflow.
    logs = np.log(growth) * np.arange(1, steps + 1)
    shares = np.exp(logs - logs.max())
    shares /= shares.sum()
    left = np.ones(count, bool)
    found: list[float] = []
    for step in range(steps - 1):
        number = min(int(count * shares[step] + 1e-9), int(left.sum()))
        if number == 0:
            found.append(_NEVER)
            continue
        there = np.flatnonzero(left)
        order = there[np.argsort(-confidences[there, step], kind="stable")]
        left[order[:number]] = False
        found.append(float(confidences[order[number - 1], step]))
    return (*found, 0.0)
