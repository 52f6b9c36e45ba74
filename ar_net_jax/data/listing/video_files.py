"""Finds the video files of a folder, and says of every other file why it is none."""

import dataclasses
import mimetypes
import os
from collections.abc import Iterator
from pathlib import Path

import av

from ar_net_jax.data.decoding.opening import open_input

# Suffixes that say "video" by themselves: such a file is taken without a look, so that a broken one
# is told as broken when it is decoded. Files of other suffixes are opened, see `why_no_video`.
_VIDEO_SUFFIXES = frozenset(
    ".3g2 .3gp .asf .avi .divx .f4v .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf "
    ".ogv .qt .rm .rmvb .vob .webm .wmv".split()
)
# FFmpeg opens these as videos, but they are pictures or text on a screen.
_NO_VIDEO_FORMATS = frozenset("adf bin idf image2 image2pipe tty xbin".split())
_NO_VIDEO_KINDS = ("text/", "image/", "audio/")
_UNFINISHED = frozenset((".part", ".ytdl", ".crdownload", ".aria2", ".tmp"))
# What systems put beside a user's files.
_SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found"))
_TYPES = mimetypes.MimeTypes(filenames=())  # Not the machine's own table: the same everywhere.


@dataclasses.dataclass(frozen=True)
class Other:
    """A file or folder below a folder that holds no video.

    Attributes:
        path: where it lies.
        reason: why it is none.
    """

    path: Path
    reason: str


def list_folder(folder: Path) -> tuple[list[Path], list[Path], list[Other]]:
    """What lies in a folder itself, sorted: its folders, its files, and what is left out.

    Links are followed. Left out are hidden files and folders (a name that begins with a dot, or a
    folder that a system keeps for itself), links that lead nowhere, and what is neither file nor
    folder; a folder that cannot be read leaves itself out.
    """
    folders, files, others = [], [], []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        return [], [], [Other(folder, f"cannot be read ({error.strerror})")]
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            others.append(Other(path, "hidden"))
        elif entry.name in _SYSTEM_FOLDERS:
            others.append(Other(path, "a folder of the system"))
        elif (kind := _kind(entry)) == "folder":
            folders.append(path)
        elif kind == "file":
            files.append(path)
        else:
            others.append(Other(path, kind))
    return folders, files, others


def find_files(folder: Path) -> tuple[list[Path], list[Other]]:
    """All files below a folder, at any depth, sorted by path, and what `list_folder` left out."""
    files: list[Path] = []
    others: list[Other] = []
    above = frozenset(_identity(parent) for parent in folder.absolute().parents)
    _descend(folder, above, files, others)
    return sorted(files), sorted(others, key=lambda other: other.path)


def _descend(
    folder: Path, above: frozenset[tuple[int, int]], files: list[Path], others: list[Other]
) -> None:
    here = _identity(folder)
    if here in above:
        others.append(Other(folder, "a link back to a folder above it"))
        return
    inside, found, left_out = list_folder(folder)
    files += found
    others += left_out
    for path in inside:
        _descend(path, above | {here}, files, others)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _kind(entry: os.DirEntry[str]) -> str:
    """`folder`, `file`, or what else it is."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # A circle of links.
        pass
    return "a link that leads nowhere" if entry.is_symlink() else "neither a file nor a folder"


def why_no_video(path: Path) -> str | None:
    """Why a file is no video; None for a video, whole or broken.

    A usual suffix of a video is enough. Text, pictures and sound are told by their suffixes; any
    other file is a video if FFmpeg opens it and finds one in it, whatever it is called.
    """
    suffix = path.suffix.lower()
    if suffix in _VIDEO_SUFFIXES:
        return None
    if suffix in _UNFINISHED:
        return "an unfinished download"
    told = f"not a video ({suffix})" if suffix else "not a video (no suffix)"
    # `guess_type` takes a path for a URL, and unpacks names such as `x.ts.gz`.
    kind = _TYPES.types_map[True].get(suffix) or _TYPES.types_map[False].get(suffix) or ""
    if kind.startswith(_NO_VIDEO_KINDS) and suffix != ".apng":
        return told
    return None if _holds_video(path) else told


def _holds_video(path: Path) -> bool:
    try:
        # "file:", because a name with a colon would be taken for the address of a stream.
        with open_input(f"file:{path}") as container:
            names = container.format.name.split(",")
            if any(name in _NO_VIDEO_FORMATS or name.endswith("_pipe") for name in names):
                return False
            return any(
                not stream.disposition & av.stream.Disposition.attached_pic
                for stream in container.streams.video
            )
    except (av.FFmpegError, OSError, ValueError):
        return False


def find_videos(folder: Path) -> tuple[list[Path], list[Other]]:
    """The video files below a folder, sorted by path, and everything else with its reason."""
    files, others = find_files(folder)
    return _partition(files, others)


def _partition(files: list[Path], others: list[Other]) -> tuple[list[Path], list[Other]]:
    videos = []
    for path in files:
        reason = why_no_video(path)
        if reason is None:
            videos.append(path)
        else:
            others.append(Other(path, reason))
    return videos, sorted(others, key=lambda other: other.path)


class VideosByName:
    """The video files below a folder, to be found by name, whatever folder and suffix they have.

    Attributes:
        others: what is no video, with the reason.
    """

    def __init__(self, folder: Path):
        videos, self.others = find_videos(folder)
        self._files: dict[str, list[Path]] = {}
        for path in videos:
            self._files.setdefault(path.stem, []).append(path)
        self._asked: set[str] = set()

    def find(self, name: str) -> Path | None:
        """The file of a name without suffix; None if there is none.

        Args:
            name: may begin with folders; of several files, the one in folders so called is meant,
                and the first else.
        """
        last = name.rpartition("/")[2]
        self._asked.add(last)
        files = self._files.get(last, [])
        if len(files) > 1:
            ending = f"/{name}"
            files = [path for path in files if str(path.with_suffix("")).endswith(ending)] or files
        return files[0] if files else None

    def never_asked_for(self) -> Iterator[Path]:
        """Files of names that `find` was never asked for."""
        return (
            path for name, paths in self._files.items() if name not in self._asked for path in paths
        )
