"""The videos that a command line names: files, folders of them, and patterns."""

import glob
from collections.abc import Sequence
from pathlib import Path

from ar_net_jax.data.listing.video_files import find_videos, why_no_video
from ar_net_jax.errors import UserError

_PATTERN = "*?["


def expand_inputs(names: Sequence[str]) -> tuple[list[Path], dict[str, str]]:
    """The files that names stand for, in their order and each once.

    Args:
        names: each a file; a folder, for all videos below it; or a pattern with `*`, `?` or `[...]`
            for what the shell left to be expanded, `**` for folders at any depth. A name that is
            there is taken as it is.

    Returns:
        The files; and by name, a line for everything that was named and gives none. Folders and
        patterns give videos alone; a file that was named by itself is taken for one.
    """
    files: dict[Path, None] = {}
    faults: dict[str, str] = {}
    for name in names:
        try:
            files.update(dict.fromkeys(_expand(name)))
        except UserError as error:
            faults[name] = str(error)
    return list(files), faults


def _expand(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        videos, _ = find_videos(path)
        if not videos:
            raise UserError(f"{name}: no videos in this folder")
        return videos
    if path.exists():
        return [path]
    if not any(sign in name for sign in _PATTERN):
        raise UserError(f"{name}: no such file")
    found = sorted(Path(match) for match in glob.glob(name, recursive=True))
    videos = [video for match in found for video in _expand_match(match)]
    if not videos:
        raise UserError(f"{name}: no video has such a name")
    return videos


def _expand_match(path: Path) -> list[Path]:
    if path.is_dir():
        return find_videos(path)[0]
    return [path] if why_no_video(path) is None else []
