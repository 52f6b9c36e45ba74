"""TensorFlow Datasets builder for a folder of videos."""

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ar_net_jax.data.augment import shrink_short_side
from ar_net_jax.data.builder import Video, VideoBuilder, VideoConfig, encode_jpeg
from ar_net_jax.data.video import decode_frames
from ar_net_jax.errors import UserError

_SUFFIXES = {".mp4", ".avi", ".mkv", ".webm", ".mov"}
_CLASSES = "classes.txt"


@dataclasses.dataclass
class VideoFolderConfig(VideoConfig):
    """How the videos of a folder are stored.

    Attributes:
        frame_rate: frames per second to keep; None keeps every frame.
        short_side: pixels of the stored frames' shorter side; larger frames are shrunk to it,
            smaller ones kept. None keeps every size.
        quality: of the JPEG frames, 1 to 95.
    """

    frame_rate: float | None = None
    short_side: int | None = 256
    quality: int = 90


class VideoFolder(VideoBuilder, skip_registration=True):
    """Videos from a folder, as `<split>/<class>/*.mp4` or as `<split>.csv` with `classes.txt`.

    A row of the list is `path,label[;label...]`: the path relative to the folder, the labels names
    from `classes.txt`, which has one to a line, and the main one first, because cross-entropy and
    top-1 go by it. Suffixes: mp4, avi, mkv, webm, mov.
    """

    CONFIG = VideoFolderConfig

    def _lists(self) -> list[Path]:
        return sorted(self.root.glob("*.csv"))

    def list_classes(self) -> list[str]:
        """Lines of classes.txt, else the names of the class folders, sorted."""
        if not self.root.is_dir():
            raise UserError(f"{self.root}: no such folder")
        names = self.root / _CLASSES
        if names.exists():
            classes = [line.strip() for line in names.read_text().splitlines() if line.strip()]
        elif self._lists():
            raise UserError(f"{names}: missing; write one class name to a line")
        else:
            classes = sorted({path.parent.name for path in self._class_files()})
        if not classes:
            raise UserError(
                f"{self.root}: no videos found; expected <split>/<class>/*.mp4, or <split>.csv "
                f"with {_CLASSES}"
            )
        if len(set(classes)) < len(classes):
            raise UserError(f"{names}: names a class twice")
        return classes

    def list_videos(self) -> dict[str, list[Video]]:
        """Videos of each split, in order of the list, or sorted by path without one."""
        index = {name: i for i, name in enumerate(self.list_classes())}
        if self._lists():
            return {path.stem: self._read_list(path, index) for path in self._lists()}
        splits: dict[str, list[Video]] = {}
        for path in self._class_files():
            name = path.relative_to(self.root).as_posix()
            if path.parent.name not in index:
                raise UserError(f"{path.parent}: this class is not in {_CLASSES}")
            video = Video(name, path, (index[path.parent.name],))
            splits.setdefault(name.split("/")[0], []).append(video)
        return splits

    def encode(self, video: Video) -> Iterator[bytes]:
        """Decodes a file at the configured rate, size and quality."""
        config = self.builder_config
        for pixels, _ in decode_frames(video.path, config.frame_rate):
            image = Image.fromarray(pixels)
            if config.short_side is not None and min(image.size) > config.short_side:
                image = shrink_short_side(image, config.short_side)
            yield encode_jpeg(image, config.quality)

    def _class_files(self) -> list[Path]:
        files = self.root.glob("*/*/*")
        return sorted(path for path in files if path.suffix.lower() in _SUFFIXES)

    def _read_list(self, path: Path, index: dict[str, int]) -> list[Video]:
        videos = {}
        with open(path, newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if not row:
                    continue
                if len(row) != 2:
                    raise UserError(f"{path}, line {number}: expected path,label[;label...]")
                names = [name.strip() for name in row[1].split(";")]
                unknown = [name for name in names if name not in index]
                if unknown:
                    raise UserError(f"{path}, line {number}: {unknown[0]!r} is not in {_CLASSES}")
                if row[0] in videos:
                    raise UserError(f"{path}, line {number}: {row[0]} is listed twice")
                labels = tuple(dict.fromkeys(index[name] for name in names))
                videos[row[0]] = Video(row[0], self.root / row[0], labels)
        return list(videos.values())
