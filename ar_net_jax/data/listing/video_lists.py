"""Videos in lists: `<split>.csv` with rows of `path,label[;label...]` beside `classes.txt`."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from ar_net_jax.data.listing.catalogue import Catalogue
from ar_net_jax.data.listing.lists import read_rows
from ar_net_jax.data.listing.names import class_name, text_of
from ar_net_jax.data.listing.split_names import name_splits, usual_split
from ar_net_jax.data.videos import Video
from ar_net_jax.errors import UserError


def list_rows(lists: list[Path], classes: list[str]) -> Catalogue:
    """Reads the lists of the splits.

    Args:
        lists: a list a split, called like it (see `usual_split`). A single list of another name
            is not split: all its videos are `train`.
        classes: in the order of the labels.

    Returns:
        The catalogue; videos that are not there are left out as missing.

    Raises:
        UserError: a list that cannot be read, a row of another form, an unknown class, a video
            that is listed twice.
    """
    catalogue = Catalogue(classes)
    if len(lists) == 1 and not usual_split(lists[0].stem):
        splits = {"train": lists[0]}
        catalogue.notes.append(
            f"{lists[0].name} is not called like a split (train, val, test): its videos are "
            "taken as 'train'"
        )
    else:
        splits, catalogue.notes[:] = name_splits(lists)
    for split, path in splits.items():
        catalogue.splits[split] = []
        _read_list(catalogue, split, path)
    return catalogue


def _read_list(catalogue: Catalogue, split: str, path: Path) -> None:
    index = {name: i for i, name in enumerate(catalogue.classes)}
    seen: set[str] = set()
    for number, row in read_rows(path):
        where = f"{path}, line {number}"
        if len(row) != 2:
            raise UserError(
                f"{where}: expected path,label[;label...], found {len(row)} cells; quote a path "
                'that holds a comma, as "a,b.mp4",label'
            )
        names = [class_name(name) for name in row[1].split(";") if name.strip()]
        if unknown := [name for name in names if name not in index]:
            raise UserError(f"{where}: {unknown[0]!r} is not in classes.txt")
        if not names:
            raise UserError(f"{where}: names no label")
        spelling = _as_meant(path.parent, row[0])
        name = text_of(spelling or row[0].strip())
        if os.path.normpath(name) in seen:
            raise UserError(f"{where}: {name} is listed twice")
        seen.add(os.path.normpath(name))
        if spelling is None:
            catalogue.leave_out(split, name, "no such file", names[0], missing=True)
        else:
            labels = tuple(dict.fromkeys(index[label] for label in names))
            catalogue.add(split, Video(name, path.parent / spelling, labels))


def _as_meant(root: Path, cell: str) -> str | None:
    """The path of a file as it stands in a cell, or as it was meant; None if there is no file."""
    return next((path for path in _spellings(cell) if (root / path).is_file()), None)


def _spellings(cell: str) -> Iterator[str]:
    yield cell
    # Blanks around it, the path of a Windows machine, accents in one character or in two.
    for spelling in (cell.strip(), cell.strip().replace("\\", "/")):
        yield spelling
        yield unicodedata.normalize("NFC", spelling)
        yield unicodedata.normalize("NFD", spelling)
