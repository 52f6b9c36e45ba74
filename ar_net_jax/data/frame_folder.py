"""Shared logic of the builders over folders of frames with the lists released with AR-Net."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from PIL import Image, UnidentifiedImageError

from ar_net_jax.data.augment import shrink_short_side
from ar_net_jax.data.builder import Video, VideoBuilder, VideoConfig, encode_jpeg
from ar_net_jax.errors import UserError

_FEWEST_FRAMES = 3
_JPEG_END = b"\xff\xd9"


@dataclasses.dataclass
class FrameFolderConfig(VideoConfig):
    """How the frames are stored.

    Attributes:
        stride: keeps every stride-th frame, starting with the first.
        short_side: shrinks frames whose shorter side is larger than this many pixels; None stores
            the files as they are, without compressing them again.
        quality: of frames that were shrunk, 1 to 95.
    """

    stride: int = 1
    short_side: int | None = None
    quality: int = 90


class FrameFolderBuilder(VideoBuilder, skip_registration=True):
    """Videos as `frames/<name>/<number>.jpg`, numbered from 1, listed in a text file per split.

    A row of a list is name, number of frames, and one or more labels. As in the released AR-Net,
    videos of fewer than 3 frames are left out.
    """

    CONFIG = FrameFolderConfig
    LISTS: ClassVar[dict[str, str]]  # file name by split
    SEPARATOR: ClassVar[str]
    FRAME_NAME: ClassVar[str]  # format of a frame's file name

    def list_classes(self) -> list[str]:
        """Lines of classInd.txt."""
        path = self.root / "classInd.txt"
        if not path.is_file():
            raise UserError(f"{path}: no such file; source_dir is the folder of the split lists")
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]

    def parse_row(self, row: str) -> tuple[str, int, list[int]]:
        """Splits a row of a list into name, number of frames and labels."""
        name, num_frames, *labels = row.split(self.SEPARATOR)
        return name, int(num_frames), [int(label) for label in labels]

    def list_videos(self) -> dict[str, list[Video]]:
        """Videos of each split in the order of its list."""
        return {split: self._read_list(self.root / name) for split, name in self.LISTS.items()}

    def _read_list(self, path: Path) -> list[Video]:
        if not path.is_file():
            raise UserError(f"{path}: no such file; source_dir is the folder of the split lists")
        num_classes = len(self.list_classes())
        videos = []
        for number, row in enumerate(path.read_text().splitlines(), start=1):
            if not row.strip():
                continue
            try:
                name, num_frames, labels = self.parse_row(row.strip())
            except ValueError as error:
                raise UserError(
                    f"{path}, line {number}: expected name, number of frames and labels, "
                    f"separated by {self.SEPARATOR!r}"
                ) from error
            if not labels or not all(0 <= label < num_classes for label in labels):
                raise UserError(f"{path}, line {number}: labels must be in 0..{num_classes - 1}")
            if num_frames >= _FEWEST_FRAMES:
                folder = self.root / "frames" / name
                videos.append(Video(name, folder, tuple(sorted(set(labels))), num_frames))
        return videos

    def encode(self, video: Video) -> Iterator[bytes]:
        """Reads the frames of a folder."""
        for number in range(1, video.num_frames + 1, self.builder_config.stride):
            yield self._read_frame(video.path / self.FRAME_NAME.format(number))

    def _read_frame(self, path: Path) -> bytes:
        config = self.builder_config
        try:
            data = path.read_bytes()
            image = Image.open(io.BytesIO(data))
            # Cut-short files are common after an interrupted extraction; a full check is slow.
            if image.format != "JPEG" or _JPEG_END not in data[-64:]:
                raise UserError(f"{path}: not a complete JPEG file")
            if config.short_side is None or min(image.size) <= config.short_side:
                return data
            shrunk = shrink_short_side(image.convert("RGB"), config.short_side)
            return encode_jpeg(shrunk, config.quality)
        except UnidentifiedImageError as error:
            raise UserError(f"{path}: not an image") from error
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}") from error
