"""Which backbone a state dictionary is of, by its keys and shapes."""

from collections.abc import Iterable, Mapping

import numpy as np

from ar_net_jax import backbones
from ar_net_jax.backbones.layouts import COUNTER, from_flax
from ar_net_jax.weights.imagenet import variable_shapes

Shapes = Mapping[str, tuple[int, ...]]


def identify(shapes: Shapes, candidates: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The candidate that fits best, even where a few keys are missing or too many.

    Args:
        shapes: key of the backbone or its classifier -> shape in PyTorch's axis order.
        candidates: names of backbones, each with a layout of its keys.

    Returns:
        Name and layout, the first of those that fit alike; None where no key is one of theirs.
    """
    keys = {key for key in shapes if not key.endswith(COUNTER)}
    known = {candidate: _keys(*candidate) for candidate in candidates}
    apart = {
        candidate: len(own ^ keys) for candidate, own in known.items() if not keys.isdisjoint(own)
    }
    best = [candidate for candidate, count in apart.items() if count == min(apart.values())]
    if len({name for name, _ in best}) > 1:
        # Some have the same keys, and differ in width alone.
        return max(best, key=lambda candidate: _fitting_shapes(candidate, shapes))
    return best[0] if best else None


def _keys(name: str, layout: str) -> set[str]:
    return {entry.source for entry in backbones.get(name).entries(layout)}


def _fitting_shapes(candidate: tuple[str, str], shapes: Shapes) -> int:
    name, layout = candidate
    expected = variable_shapes(name)
    return sum(
        shapes.get(entry.source)
        == from_flax(entry, np.empty(expected[entry.collection, *entry.path], np.bool_)).shape
        for entry in backbones.get(name).entries(layout)
    )
