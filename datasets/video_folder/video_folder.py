"""TensorFlow Datasets builder for a folder of videos."""

import dataclasses
from collections.abc import Iterator

from ar_net_jax.data.builder import VideoConfig
from ar_net_jax.data.listing.catalogue import Catalogue, CatalogueBuilder
from ar_net_jax.data.listing.class_folders import list_class_folders
from ar_net_jax.data.listing.lists import read_classes
from ar_net_jax.data.listing.video_lists import list_rows
from ar_net_jax.data.video_encoding import encode_video
from ar_net_jax.data.videos import Video
from ar_net_jax.errors import UserError

_CLASSES = "classes.txt"


@dataclasses.dataclass
class VideoFolderConfig(VideoConfig):
    """How the videos of a folder are stored.

    Attributes:
        frame_rate: frames per second to keep; None keeps every frame.
        short_side: pixels of the stored frames' shorter side; larger frames are shrunk to it,
            smaller ones kept. None keeps every size.
        quality: of the JPEG frames, 1 to 95.
        validation_share: of the training videos of each class, to be the validation split where
            there is none; chosen by the videos' names.
    """

    frame_rate: float | None = None
    short_side: int | None = 256
    quality: int = 90
    validation_share: float = 0.0


class VideoFolder(CatalogueBuilder, skip_registration=True):
    """Videos from a folder, as `<split>/<class>/...` or as `<split>.csv` with `classes.txt`.

    Splits are called `train`, `validation` and `test`, or by other usual names of these (`val`,
    `valid`, `dev`, `eval`, `training`, `testing`, in any case). Videos may lie at any depth below
    the folder of their class, with any suffix whose content FFmpeg opens; hidden files and what is
    no video are reported. Classes are in the order of `classes.txt` where there is one, else
    sorted.

    A row of a list is `path,label[;label...]`: the path relative to the folder, the labels names
    from `classes.txt`, which has one to a line, and the main one first, because cross-entropy and
    top-1 go by it. Lists are UTF-8, or UTF-16 with its mark; a cell with a comma is quoted.

    Class folders without splits (`<class>/...`), and a single list that is not called like a split,
    are all training videos; `validation_share` makes a validation split of a part of them.
    """

    CONFIG = VideoFolderConfig

    def read_source(self) -> Catalogue:
        """Reads the lists where there are any, the folders otherwise."""
        if not self.root.is_dir():
            raise UserError(f"{self.root}: no such folder")
        names, lists = self.root / _CLASSES, sorted(self.root.glob("[!.]*.csv"))
        classes = read_classes(names) if names.is_file() else None
        if not lists:
            catalogue = list_class_folders(self.root, classes)
        elif classes is None:
            raise UserError(f"{names}: missing; write one class name to a line")
        else:
            catalogue = list_rows(lists, classes)
        if not any(catalogue.splits.values()) and not catalogue.left_out:
            raise UserError(
                f"{self.root}: no videos found; expected <split>/<class>/*.mp4, or <split>.csv "
                f"with {_CLASSES}"
            )
        if share := self.builder_config.validation_share:
            catalogue.hold_out_validation(share)
        catalogue.note_classes(_CLASSES if classes else None)
        return catalogue

    def encode(self, video: Video) -> Iterator[bytes]:
        """Decodes a file at the configured rate, size and quality."""
        config = self.builder_config
        return encode_video(video.path, config.frame_rate, config.short_side, config.quality)
