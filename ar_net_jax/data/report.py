"""What became of a data set's videos: found, used, left out and why, by split and class."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ar_net_jax.data.videos import LeftOut
from ar_net_jax.errors import first_few

REPORT = "report.json"


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of the videos.

    Attributes:
        made_from: where they come from and how they are stored: `data_set`, `source_dir` and the
            options.
        classes: in the order of the labels.
        used: for each split, the class (that of the main label) of each video that is in it.
        left_out: what is not in the data set, in the order of the listing.
        notes: what was assumed of the source, a line each.
    """

    made_from: Mapping[str, Any]
    classes: Sequence[str]
    used: Mapping[str, Sequence[str]]
    left_out: Sequence[LeftOut]
    notes: Sequence[str] = ()

    @property
    def splits(self) -> list[str]:
        """All that have videos, or would have."""
        return list(dict.fromkeys([*self.used, *(entry.split for entry in self.left_out)]))

    def to_json(self) -> dict[str, Any]:
        """The report as JSON holds it: `made_from`, `classes`, `notes`, `splits`, `left_out`.

        A split has `found`, `used` and `left_out`, and the same for each of its `classes`.
        """
        return {
            "made_from": dict(self.made_from),
            "classes": list(self.classes),
            "notes": list(self.notes),
            "splits": {split: self._split(split) for split in self.splits},
            "left_out": [dataclasses.asdict(entry) for entry in self.left_out],
        }

    def lines(self) -> list[str]:
        """The report in short: a line a split, and below it what deserves a look."""
        told = list(self.notes)
        for split in self.splits:
            used, left_out = self.used.get(split, ()), self._left_out(split)
            if not split:
                told.append(f"in no split: {len(left_out)} left out")
                told += [f"  {line}" for line in reasons(left_out)]
                continue
            rest = f", {len(left_out)} left out" if left_out else ""
            classes = f"{len(set(used))} of {len(self.classes)} classes"
            told.append(f"{split}: {_videos(len(used))} of {classes}{rest}")
            told += [f"  {line}" for line in reasons(left_out)]
            empty = [name for name in self.classes if name not in set(used)]
            if empty and split == "train":
                told.append(f"  no videos of {first_few(empty)}")
        return told

    def _left_out(self, split: str) -> list[LeftOut]:
        return [entry for entry in self.left_out if entry.split == split]

    def _split(self, split: str) -> dict[str, Any]:
        used = collections.Counter(self.used.get(split, ()))
        left_out = collections.Counter(entry.class_name for entry in self._left_out(split))
        return {
            **_counts(used.total(), left_out.total()),
            "classes": {name: _counts(used[name], left_out[name]) for name in self.classes},
        }


def reasons(left_out: Sequence[LeftOut]) -> list[str]:
    """A line for each kind of reason: the number of videos and the first of them, or the only one.

    >>> cut = [LeftOut("train", f"{i}.mp4", None, f"cut short ({i} of 40 frames)") for i in (8, 9)]
    >>> reasons([*cut, LeftOut("train", "a.mp4", None, "no such file")])
    ['2 cut short: 8.mp4, 9.mp4', 'a.mp4: no such file']
    """
    kinds: dict[str, list[LeftOut]] = collections.defaultdict(list)
    for entry in left_out:
        # What differs from file to file stands before a colon or in parentheses.
        kind = entry.reason.split("; ")[0].split(" (")[0].rpartition(": ")[2]
        kinds[kind].append(entry)
    lines = []
    for kind, entries in sorted(kinds.items(), key=lambda item: -len(item[1])):
        if len(entries) == 1:
            lines.append(f"{entries[0].name}: {entries[0].reason}")
        else:
            names = first_few([entry.name for entry in entries])
            lines.append(f"{len(entries)} {kind}: {names}")
    return lines


def _counts(used: int, left_out: int) -> dict[str, int]:
    return {"found": used + left_out, "used": used, "left_out": left_out}


def _videos(count: int) -> str:
    return f"{count} video{'' if count == 1 else 's'}"
