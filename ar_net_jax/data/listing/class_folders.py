"""Videos sorted into folders: `<split>/<class>/...`, or `<class>/...` without splits."""

import os
from collections.abc import Iterator
from pathlib import Path

from ar_net_jax.data.listing.catalogue import Catalogue
from ar_net_jax.data.listing.names import class_name, text_of
from ar_net_jax.data.listing.split_names import name_splits, usual_split
from ar_net_jax.data.listing.video_files import Other, find_videos, list_folder, why_no_video
from ar_net_jax.data.videos import Video
from ar_net_jax.errors import UserError, first_few


def list_class_folders(root: Path, classes: list[str] | None) -> Catalogue:
    """Lists the videos of class folders, at any depth below the folder of their class.

    A top folder called `train`, `val`, `test` and the like (see `usual_split`) makes all top
    folders splits; where none is, the top folders are the classes, and all videos are `train`.

    Args:
        root: the folder of the top folders.
        classes: in the order of the labels; None takes the folders that hold videos, sorted.

    Returns:
        The catalogue. Files that are no videos, hidden ones and videos outside of the class folders
        are left out.

    Raises:
        UserError: no such folder, no videos, or a class folder that `classes` does not name.
    """
    folders, files, others = list_folder(root)
    is_split = any(usual_split(folder.name) for folder in folders)
    catalogue = Catalogue(classes or [])
    if is_split:
        splits, catalogue.notes[:] = name_splits(folders)
    else:
        splits = {"train": root}
    for path in files:
        if why_no_video(path) is None:
            catalogue.leave_out("", text_of(path.name), "lies in no class folder", None)
    if is_split:
        _tell(catalogue, root, "", others)
    found = {split: dict(_by_class(catalogue, root, split, path)) for split, path in splits.items()}
    if classes is None:
        catalogue.classes = sorted({name for members in found.values() for name in members})
    elif unknown := sorted({name for members in found.values() for name in members} - {*classes}):
        raise UserError(
            f"{root}: there are folders of classes that classes.txt does not name: "
            f"{first_few(unknown)}; add them, or move the folders away"
        )
    index = {name: i for i, name in enumerate(catalogue.classes)}
    for split, members in found.items():
        for name, paths in members.items():
            for path in paths:
                called = text_of(path.relative_to(root).as_posix())
                catalogue.add(split, Video(called, path, (index[name],)))
        if split in catalogue.splits:
            catalogue.splits[split].sort(key=lambda video: video.path)
    if not is_split and catalogue.splits:
        catalogue.notes.append(
            f"no top folder is called like a split (train, val, test): the {len(found['train'])} "
            "top folders are taken for classes"
        )
    return catalogue


def _by_class(
    catalogue: Catalogue, root: Path, split: str, folder: Path
) -> Iterator[tuple[str, list[Path]]]:
    """The videos of each class folder of a split that holds any."""
    folders, files, others = list_folder(folder)
    if folder != root:
        others += [Other(path, why_no_video(path) or "lies in no class folder") for path in files]
    _tell(catalogue, root, split, others)
    members: dict[str, list[Path]] = {}
    for path in folders:
        label = class_name(path.name)
        videos, others = find_videos(path)
        _tell(catalogue, root, split, others, label)
        if videos:
            members.setdefault(label, []).extend(videos)
        else:
            catalogue.notes.append(
                f"the folder {text_of(os.fspath(path.relative_to(root)))} holds no videos"
            )
    yield from members.items()


def _tell(
    catalogue: Catalogue, root: Path, split: str, others: list[Other], label: str | None = None
) -> None:
    for other in others:
        name = text_of(other.path.relative_to(root).as_posix())
        catalogue.leave_out(split, name, other.reason, label)
