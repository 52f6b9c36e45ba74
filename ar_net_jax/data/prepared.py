"""What is prepared in a folder: data sets by name, and what each was made from."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from ar_net_jax.errors import UserError
from ar_net_jax.runtime.storage import write_whole

_INDEX = "prepared.json"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is prepared in a folder under a name.

    Attributes:
        path: of the data set, below the folder.
        source_dir: what it was made from, absolute.
        given: the same as it was given.
        options: that it was made with.
    """

    path: str
    source_dir: str
    given: str
    options: dict[str, Any]


def read_index(data_dir: Path) -> dict[str, Any]:
    """Entries by name, as JSON holds them; one of an earlier version is no more than a path."""
    try:
        return json.loads((data_dir / _INDEX).read_text())
    except FileNotFoundError:
        return {}


def read_entry(name: str, data_dir: Path) -> Entry | None:
    """What is prepared under a name; None if nothing is.

    Raises:
        UserError: it was prepared by an earlier version, in another form.
    """
    index = read_index(data_dir)
    if name not in index:
        return None
    if isinstance(index[name], str):
        raise UserError(
            f"{data_dir / index[name]}: prepared by an earlier version, which stored all frames of "
            "a video as one; give the source, to prepare it anew"
        )
    return Entry(**index[name])


def write_entry(name: str, entry: Entry, data_dir: Path) -> None:
    """Notes what is prepared under a name, in place of what was."""
    index = read_index(data_dir) | {name: dataclasses.asdict(entry)}
    write_whole(data_dir / _INDEX, json.dumps(index, indent=1))
