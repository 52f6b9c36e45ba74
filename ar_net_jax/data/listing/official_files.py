"""The files that the makers of ActivityNet, Kinetics and FCVID publish: videos by name and label.

Half of such videos may be gone from the web, so that what is listed here need not be there.
"""

import dataclasses
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from ar_net_jax.data.listing.lists import read_lines, read_rows, read_text
from ar_net_jax.data.listing.names import class_name
from ar_net_jax.data.listing.split_names import usual_split
from ar_net_jax.errors import UserError

# Written as whole numbers, or as other programs write them anew.
_FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True}
_KINETICS_COLUMNS = ("youtube_id", "time_start", "time_end")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A video as an official file lists it.

    Attributes:
        split: `train`, `validation` or `test`.
        stem: name of its file without suffix.
        labels: names of its classes, the main one first; empty where they are withheld.
    """

    split: str
    stem: str
    labels: tuple[str, ...]


def read_activitynet(path: Path) -> list[Entry]:
    """Reads `activity_net.v1-3.min.json`; files are called `v_<id>`.

    A label comes once, however often it is annotated, and the main one is that of most annotated
    seconds: a benchmark's choice, as the file ranks none. `testing` has no labels.

    Raises:
        UserError: it is not that file.
    """
    try:
        database = json.loads(read_text(path))["database"]
        entries = [_activitynet_entry(name, video) for name, video in database.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path}: not a file of ActivityNet ({type(error).__name__}: {error}); expected "
            '{"database": {id: {"subset": ..., "annotations": [{"label": ..., "segment": ...}]}}}'
        ) from error
    return entries


def _activitynet_entry(name: str, video: dict[str, Any]) -> Entry:
    split = usual_split(video["subset"])
    if split is None:
        raise ValueError(f"subset {video['subset']!r} of {name}")
    seconds: dict[str, float] = defaultdict(float)
    for annotation in video["annotations"]:
        start, end = annotation["segment"]
        seconds[class_name(annotation["label"])] += end - start
    # `sorted` keeps the order of the file among equals.
    return Entry(split, f"v_{name}", tuple(sorted(seconds, key=lambda label: -seconds[label])))


def is_kinetics(path: Path) -> bool:
    """Whether a list is one of Kinetics, by the names of its columns."""
    with open(path, "rb") as file:
        return b"youtube_id" in file.readline(200).replace(b"\0", b"")


def read_kinetics(path: Path) -> list[Entry]:
    """Reads a list of Kinetics: `label,youtube_id,time_start,time_end,split`.

    Files are called `<id>_<start>_<end>`, with times of six digits. The split is the column's, or
    else in the name of the list. Lists of test videos may lack the column of labels.

    Raises:
        UserError: a row that cannot be read, or no way to tell the split.
    """
    rows = iter(read_rows(path))
    _, header = next(rows)
    columns = {name.strip().lower(): i for i, name in enumerate(header)}
    if absent := [name for name in _KINETICS_COLUMNS if name not in columns]:
        raise UserError(f"{path}: has no column {absent[0]!r}; found {','.join(header)}")
    entries = {}
    for number, row in rows:
        cells = {name: row[i].strip() for name, i in columns.items() if i < len(row)}
        try:
            times = [int(float(cells[name])) for name in ("time_start", "time_end")]
            stem = "_".join((cells["youtube_id"], *(f"{time:06d}" for time in times)))
        except (KeyError, ValueError) as error:
            raise UserError(f"{path}, line {number}: expected {','.join(header)}") from error
        split = usual_split(cells.get("split", "")) or _split_in_name(path)
        label = class_name(cells["label"]) if cells.get("label") else None
        entries[split, stem] = Entry(split, stem, (label,) if label else ())
    return list(entries.values())


def _split_in_name(path: Path) -> str:
    """`kinetics_400_val.csv` and `miniKinetics130trainv2.csv` say what they hold."""
    found = {usual_split(word) for word in ("train", "val", "test") if word in path.stem.lower()}
    if len(found) == 1 and (split := found.pop()):
        return split
    raise UserError(
        f"{path}: has no column 'split', and its name does not say which it is; call it "
        "train.csv, val.csv or test.csv"
    )


def read_fcvid(
    splits: Path, labels: Path, classes: list[str] | None
) -> tuple[list[Entry], list[str]]:
    """Reads FCVID's `FCVID_VideoName_TrainTestSplit.txt` and `FCVID_Label.txt`.

    A row of the first is the path of a video and `train` or `test`; the same row of the second has
    a column a class, 1 where the video is of it. A video's labels are in the order of the columns.
    As in the lists of the released AR-Net, the test videos are `validation`.

    Args:
        splits: the first file.
        labels: the second file.
        classes: names of the columns; None calls them by their numbers, from 0.

    Returns:
        The videos and the names of the columns.

    Raises:
        UserError: a row that cannot be read, or files that do not fit together.
    """
    rows, columns = read_lines(splits), read_lines(labels)
    if len(rows) != len(columns):
        raise UserError(
            f"{splits} has {len(rows)} rows, but {labels} has {len(columns)}: they are not of one "
            "release"
        )
    width = len(columns[0][1].split()) if columns else 0
    if classes is None:
        classes = [str(i) for i in range(width)]
    if len(classes) != width:
        raise UserError(
            f"the list of classes has {len(classes)} names, but {labels} {width} columns"
        )
    entries = []
    for (number, row), (label_number, flags) in zip(rows, columns):
        *name, given = row.rsplit(maxsplit=1)
        split = usual_split(given)
        if not name or split is None:
            raise UserError(f"{splits}, line {number}: expected the path of a video, train or test")
        cells = flags.split()
        if len(cells) != width or not {*cells} <= _FLAGS.keys():
            raise UserError(f"{labels}, line {label_number}: expected {width} columns of 0 or 1")
        present = tuple(name for name, cell in zip(classes, cells) if _FLAGS[cell])
        stem = str(Path(name[0].strip()).with_suffix(""))
        entries.append(Entry("validation" if split == "test" else split, stem, present))
    return entries, classes
