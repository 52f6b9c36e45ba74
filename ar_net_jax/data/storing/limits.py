"""How many of a data set's videos may be missing or bad before it is refused."""

import collections
import math
from collections.abc import Sequence
from pathlib import Path

from ar_net_jax.data.report import reasons
from ar_net_jax.data.videos import LeftOut, Listing
from ar_net_jax.errors import UserError


def check_missing(listing: Listing, allowed: float, root: Path) -> None:
    """Checks that enough of the listed videos are there.

    Args:
        listing: of the data set.
        allowed: share of a split's videos that may be missing.
        root: the source, for the message.

    Raises:
        UserError: more are missing.
    """
    missing = collections.Counter(entry.split for entry in listing.left_out if entry.missing)
    for split, count in missing.items():
        total = count + len(listing.splits.get(split, ()))
        if count > allowed * total:
            entries = [entry for entry in listing.left_out if entry.missing]
            named = "; ".join(reasons([entry for entry in entries if entry.split == split]))
            raise UserError(
                f"{root}: {count} of {total} videos of {split} are missing, more than "
                f"max_missing_share={allowed:g} allows: {named}; to go on without them, give "
                f"--config.data.max_missing_share={math.ceil(100 * count / total) / 100:g}"
            )


def check_bad(listing: Listing, bad: Sequence[LeftOut], allowed: float, root: Path) -> None:
    """Checks that not too many videos are bad.

    Args:
        listing: of the data set.
        bad: the bad ones found so far, the listing's included.
        allowed: share of all videos that may be bad.
        root: the source, for the message.

    Raises:
        UserError: more are bad.
    """
    listed_as_bad = sum(entry.bad for entry in listing.left_out)
    total = listed_as_bad + sum(map(len, listing.splits.values()))
    if len(bad) > allowed * total:
        raise UserError(
            f"{root}: {len(bad)} of {total} videos are bad, more than max_bad_share={allowed:g} "
            f"allows: {'; '.join(reasons(bad))} (`arnet prepare --check` lists all)"
        )
