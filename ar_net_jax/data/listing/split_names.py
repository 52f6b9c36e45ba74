"""The names of splits, and a validation split taken out of the training videos."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ar_net_jax.data.listing.names import text_of
from ar_net_jax.errors import UserError

_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "validate", "validating", "dev", "eval"),
    "test": ("test", "testing"),
}
_CANONICAL = {alias: split for split, aliases in _ALIASES.items() for alias in aliases}


def usual_split(name: str) -> str | None:
    """`train`, `validation` or `test` by any of its usual names, in any case; None for others.

    >>> usual_split("val"), usual_split("Training"), usual_split("fold1")
    ('validation', 'train', None)
    """
    return _CANONICAL.get(name.casefold())


def name_splits(found: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """Calls the folders or lists of splits by the names that the jobs know.

    Args:
        found: a folder or list a split, called like its split.

    Returns:
        The splits by name, and a line for each that is called otherwise here.

    Raises:
        UserError: two of them are one split, such as `val` and `validation`.
    """
    splits: dict[str, Path] = {}
    notes = []
    for path in found:
        given = path.stem if path.is_file() else path.name
        name = usual_split(given) or text_of(given)
        if name in splits:
            raise UserError(
                f"{splits[name]} and {path} are both the split '{name}'; put them into one, or "
                "rename one of them"
            )
        splits[name] = path
        if name != given:
            notes.append(f"the split '{text_of(given)}' is taken as '{name}'")
    return splits, notes


def hold_out(names: Sequence[str], labels: Sequence[int], share: float) -> list[bool]:
    """Which videos to set aside, the same share of every class.

    It depends on the names alone, so that it is the same on every machine and on every run; a video
    more in a class moves hardly any other.

    Args:
        names: of the videos.
        labels: their main classes.
        share: of each class, in (0, 1); at least one of its videos, and never all of them.

    Returns:
        For each video whether it is set aside.
    """
    by_class: dict[int, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        by_class[label].append(i)
    aside = [False] * len(names)
    for members in by_class.values():
        count = min(max(1, round(share * len(members))), len(members) - 1)
        members.sort(key=lambda i: hashlib.sha256(names[i].encode()).digest())
        for i in members[:count]:
            aside[i] = True
    return aside
