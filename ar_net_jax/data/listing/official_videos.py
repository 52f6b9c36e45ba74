"""Finds the videos that the official files of a data set name."""

from collections import Counter
from pathlib import Path

from ar_net_jax.data.listing.catalogue import Catalogue
from ar_net_jax.data.listing.names import text_of
from ar_net_jax.data.listing.official_files import Entry
from ar_net_jax.data.listing.video_files import VideosByName
from ar_net_jax.data.videos import Video
from ar_net_jax.errors import UserError, first_few

# The official files themselves and their like, in which nobody looks for a video.
_LIST_SUFFIXES = frozenset((".csv", ".json", ".txt"))


def listed_classes(entries: list[Entry]) -> list[str]:
    """The names of all labels of the entries, sorted."""
    return sorted({label for entry in entries for label in entry.labels})


def list_official(
    root: Path, entries: list[Entry], classes: list[str], *, subset: bool = False
) -> Catalogue:
    """Looks for the files of the entries anywhere below a folder.

    Args:
        root: the folder.
        entries: what the official files list.
        classes: in the order of the labels.
        subset: whether `classes` are some of those listed: videos of others are not taken.

    Returns:
        The catalogue. Videos that are not there are left out as missing, those whose labels are
        withheld or of no class are counted in a note.

    Raises:
        UserError: the listed labels and `classes` do not fit together.
    """
    _check_classes(listed_classes(entries), classes, subset)
    catalogue, files = Catalogue(classes), VideosByName(root)
    index = {name: i for i, name in enumerate(classes)}
    without: Counter[str] = Counter()
    seen = set()
    for entry in entries:
        path = files.find(entry.stem)
        labels = tuple(index[label] for label in entry.labels if label in index)
        name = text_of(entry.stem)
        if not labels:
            kind = "of other classes" if entry.labels else "without labels"
            without[f"{entry.split} videos {kind}"] += 1
        elif (entry.split, entry.stem) in seen:
            catalogue.leave_out(entry.split, name, "listed twice", classes[labels[0]])
        elif path is None:
            catalogue.leave_out(entry.split, name, "no such file", classes[labels[0]], missing=True)
        else:
            catalogue.add(entry.split, Video(name, path, labels))
        if labels:
            seen.add((entry.split, entry.stem))
    for path in files.never_asked_for():
        catalogue.leave_out("", text_of(str(path.relative_to(root))), "in no list", None)
    for other in files.others:
        if other.path.suffix.lower() not in _LIST_SUFFIXES:
            catalogue.leave_out("", text_of(str(other.path.relative_to(root))), other.reason, None)
    catalogue.notes += [f"{count} {kind} are not taken" for kind, count in sorted(without.items())]
    return catalogue


def _check_classes(listed: list[str], classes: list[str], subset: bool) -> None:
    if unknown := [name for name in classes if name not in {*listed}]:
        raise UserError(
            f"the list of classes names {first_few(unknown)}, which no video has; names must be "
            "spelled as in the official file"
        )
    if not subset and (unnamed := [name for name in listed if name not in {*classes}]):
        raise UserError(
            f"videos are labelled {first_few(unnamed)}, which the list of classes lacks"
        )
