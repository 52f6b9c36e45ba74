"""The data sets of the paper: as frames with the released lists, or as videos with official files.

Which of the two it is follows from what lies in the source folder.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ar_net_jax.data.builder import VideoConfig
from ar_net_jax.data.frame_folder import find_frames, read_frame
from ar_net_jax.data.listing.catalogue import Catalogue, CatalogueBuilder
from ar_net_jax.data.listing.lists import read_classes, read_lines
from ar_net_jax.data.listing.names import text_of
from ar_net_jax.data.listing.official_files import Entry
from ar_net_jax.data.listing.official_videos import list_official
from ar_net_jax.data.video_encoding import encode_video
from ar_net_jax.data.videos import Video
from ar_net_jax.errors import UserError

_FEWEST_FRAMES = 3
_VIDEO_SHORT_SIDE = 256


@dataclasses.dataclass
class PaperSetConfig(VideoConfig):
    """How the frames of folders or videos are stored.

    Attributes:
        stride: of folders of frames every stride-th one is kept.
        frame_rate: frames per second to keep of videos; None is the data set's own.
        short_side: pixels of the stored frames' shorter side; larger frames are shrunk to it. None
            keeps frames of folders as they are, and shrinks those of videos to 256.
        quality: of JPEG frames that have to be compressed anew, 1 to 95.
    """

    stride: int = 1
    frame_rate: float | None = None
    short_side: int | None = None
    quality: int = 90


class PaperSetBuilder(CatalogueBuilder, skip_registration=True):
    """A data set of the paper, in one of two forms.

    Frames: `frames/<name>/<number>.jpg` and the lists of the released AR-Net, a row of which is
    name, number of frames, and one or more labels. As there, videos of fewer than 3 frames are left
    out. Frames may also be numbered from 0, called otherwise, or be PNG files, see `find_frames`.

    Videos: the official files of the data set, and its videos anywhere below the source folder,
    with any suffix. Videos that are gone are left out as missing.
    """

    CONFIG = PaperSetConfig
    LISTS: ClassVar[dict[str, str]]  # file name by split
    SEPARATOR: ClassVar[str]
    FRAME_NAME: ClassVar[str]  # format of a frame's file name
    # Lists of the classes in the order of the labels: the released one, or the user's.
    CLASS_LISTS: ClassVar[tuple[str, ...]] = ("classInd.txt", "classes.txt")
    OFFICIAL: ClassVar[str]  # what the official files are called, to be told
    VIDEO_RATE: ClassVar[float | None] = None  # frames per second kept of videos; None for all
    # Whether the list of classes may name some of those in the official files only.
    IS_SUBSET: ClassVar[bool] = False

    def read_official(self, classes: list[str] | None) -> tuple[list[Entry], list[str]] | None:
        """Reads the official files in the source folder.

        Args:
            classes: from the list of the classes; None without one.

        Returns:
            The videos, and the classes in the order of the labels; None without such files.

        Raises:
            UserError: a file that cannot be read.
        """
        raise NotImplementedError

    def number_classes(self) -> list[str]:
        """What the classes of released lists are called that come without names.

        Raises:
            UserError: this data set has names.
        """
        names = " or ".join(self.CLASS_LISTS)
        raise UserError(f"{self.root}: no {names} here; write one class name to a line")

    def read_source(self) -> Catalogue:
        """Reads the released lists where there are frames, the official files otherwise."""
        if not self.root.is_dir():
            raise UserError(f"{self.root}: no such folder")
        paths = (self.root / name for name in self.CLASS_LISTS)
        names = next((path for path in paths if path.is_file()), None)
        classes = read_classes(names, numbered=True) if names else None
        lists = {split: self.root / name for split, name in self.LISTS.items()}
        listed = any(path.is_file() for path in lists.values())
        if listed and (self.root / "frames").is_dir():
            catalogue = self._read_frames(lists, classes)
        elif official := self.read_official(classes):
            catalogue = list_official(self.root, *official, subset=self.IS_SUBSET)
            catalogue.notes.insert(0, f"videos as listed in {self.OFFICIAL}")
        elif listed:
            raise UserError(
                f"{self.root / 'frames'}: no such folder; the lists are of frames in it"
            )
        else:
            raise UserError(
                f"{self.root}: holds neither the lists of the released code "
                f"({', '.join(self.LISTS.values())}) nor {self.OFFICIAL}"
            )
        catalogue.note_classes(names.name if names else None)
        return catalogue

    def _read_frames(self, lists: dict[str, Path], classes: list[str] | None) -> Catalogue:
        if self.builder_config.frame_rate is not None:
            raise UserError(
                f"frame_rate: {self.root} holds frames, whose rate is not known; set it to 0"
            )
        catalogue = Catalogue(classes or self.number_classes())
        for split, rows in lists.items():
            catalogue.splits[split] = []
            self._read_list(catalogue, split, rows)
        return catalogue

    def parse_row(self, row: str) -> tuple[str, int, list[int]]:
        """Splits a row of a released list into name, number of frames and labels."""
        name, num_frames, *labels = row.split(self.SEPARATOR)
        return name, int(num_frames), [int(label) for label in labels if label.strip()]

    def _read_list(self, catalogue: Catalogue, split: str, path: Path) -> None:
        classes, seen = catalogue.classes, set()
        for number, row in read_lines(path):
            where = f"{path}, line {number}"
            try:
                name, num_frames, labels = self.parse_row(row.strip())
            except ValueError as error:
                raise UserError(
                    f"{where}: expected name, number of frames and labels, separated by "
                    f"{self.SEPARATOR!r}"
                ) from error
            if not labels or not all(0 <= label < len(classes) for label in labels):
                raise UserError(f"{where}: labels must be in 0..{len(classes) - 1}")
            folder, main = self.root / "frames" / name, classes[min(labels)]
            called = text_of(name)
            if name in seen:
                catalogue.leave_out(split, called, "listed twice", main)
            elif num_frames < _FEWEST_FRAMES:
                reason = f"fewer than {_FEWEST_FRAMES} frames"
                catalogue.leave_out(split, called, reason, main)
            elif not folder.is_dir():
                reason = "no folder of its frames"
                catalogue.leave_out(split, called, reason, main, missing=True)
            else:
                # As released: cross-entropy and top-1 go by the smallest label.
                video = Video(called, folder, tuple(sorted(set(labels))), num_frames)
                catalogue.add(split, video)
            seen.add(name)

    def encode(self, video: Video) -> Iterator[bytes]:
        """Reads the frames of a folder, or decodes a file."""
        config = self.builder_config
        if not video.num_frames:
            rate, side = config.frame_rate or self.VIDEO_RATE, config.short_side
            yield from encode_video(video.path, rate, side or _VIDEO_SHORT_SIDE, config.quality)
            return
        frames = find_frames(video.path, self.FRAME_NAME, video.num_frames)
        for frame in range(0, frames.count, config.stride):
            yield read_frame(frames.path(frame), config.short_side, config.quality)
