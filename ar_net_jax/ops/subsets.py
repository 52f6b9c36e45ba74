"""Sets of frames drawn without replacement, and how likely each set is.

One frame after another is drawn in proportion to its probability among those that are left (the
model of Plackett and Luce); what counts is which frames were drawn, not in which order.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def top_set(scores: Array, count: int) -> Array:
    """The frames of the highest scores, earlier ones first where scores are equal.

    With Gumbel noise on log-probabilities it is a draw without replacement (Kool et al. 2019).

    Args:
        scores: float32 [B, T].
        count: N; all T frames where there are fewer.

    Returns:
        int32 [B, min(N, T)], the frames' places, the highest score first.
    """
    return jax.lax.top_k(scores, min(count, scores.shape[1]))[1].astype(jnp.int32)


def members(places: Array, length: int) -> Array:
    """Which of T = `length` frames are in the sets `places` int32 [B, N]: bool [B, T]."""
    return jnp.any(jax.nn.one_hot(places, length, dtype=bool), axis=1)


def set_log_probability(log_p: Array, places: Array) -> Array:
    """The exact log-probability that frames drawn without replacement are these, in any order.

    That is the sum over all N! orders of the products of p_i / (1 - what was drawn before). Orders
    that agree on which frames come first share a factor, so it is built up from subset to subset:
    what draws the set A in |A| draws has probability

        P(A) = sum over i in A of P(A without i) * p_i / (1 - p(A without i)),

    2^N terms in place of N!. In logarithms, and 1 - p(A) as the sum over frames outside A, so that
    nothing cancels.

    Args:
        log_p: float32 [B, T], logarithms of the frames' probabilities, which sum to 1; finite.
        places: int32 [B, N], distinct; N is small.

    Returns:
        float32 [B], at most 0 but for rounding.
    """
    subsets, levels = _lattice(places.shape[1])
    one_hot = jax.nn.one_hot(places, log_p.shape[1])
    inside = jnp.einsum("sn,bnt->bst", jnp.asarray(subsets, one_hot.dtype), one_hot) > 0.5
    # Of the whole set, which nothing is drawn after, there may be no frame outside.
    left = jax.nn.logsumexp(log_p[:, None], axis=-1, where=~inside[:, :-1])
    chosen = jnp.take_along_axis(log_p, places, axis=1)
    found = jnp.zeros((log_p.shape[0], 1), log_p.dtype)
    for before, drawn in levels:
        # Subsets are numbered level by level, so those of the level before are the last ones.
        terms = found[:, before] + chosen[:, drawn] - left[:, before]
        found = jnp.concatenate([found, jax.nn.logsumexp(terms, axis=-1)], axis=1)
    return found[:, -1]


@functools.cache
def _lattice(count: int) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """All subsets of N = `count` members, the smaller ones first, and how each one comes about.

    Returns:
        bool [2^N, N], the members of each subset; and for the subsets of size k = 1 to N the
        numbers of their k predecessors, and the member that each of those lacks: int [M, k] each.
    """
    bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
    subsets = bits[np.argsort(bits.sum(1), kind="stable")].astype(bool)
    number = {row.tobytes(): index for index, row in enumerate(subsets)}
    levels = []
    for size in range(1, count + 1):
        level = subsets[subsets.sum(1) == size]
        drawn = np.stack([np.flatnonzero(row) for row in level])
        before = np.empty_like(drawn)
        for index, row in enumerate(level):
            for place, member in enumerate(drawn[index]):
                without = row.copy()
                without[member] = False
                before[index, place] = number[without.tobytes()]
        levels.append((before, drawn))
    return subsets, levels


def random_segments(keys: Array, length: int, count: int) -> Array:
    """One frame at random from each of N equal stretches of a video, as TSN samples them.

    Args:
        keys: typed PRNG keys [B].
        length: T; where N does not divide it, stretches differ by one frame.
        count: N; every frame where there are fewer.

    Returns:
        int32 [B, min(N, T)], ascending.
    """
    count = min(count, length)
    ends = jnp.asarray(np.arange(count + 1) * length // count, jnp.int32)

    def draw(key: Array) -> Array:
        return jax.random.randint(key, (count,), ends[:-1], ends[1:])

    return jax.vmap(draw)(keys)
