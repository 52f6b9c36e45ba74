"""TensorFlow Datasets builder for FCVID."""

from ar_net_jax.data.listing.official_files import Entry, read_fcvid
from ar_net_jax.data.paper_sets import PaperSetBuilder
from ar_net_jax.errors import UserError

_SPLITS = "FCVID_VideoName_TrainTestSplit.txt"
_LABELS = "FCVID_Label.txt"


class Fcvid(PaperSetBuilder, skip_registration=True):
    """FCVID: 239 classes of web videos, frames taken at one per second.

    Either the official files, in the folder or in `materials` below it, with the videos anywhere
    below the folder: `FCVID_VideoName_TrainTestSplit.txt` (rows of a video's path and `train` or
    `test`) and `FCVID_Label.txt` (the same rows, a column of 0 or 1 a class). FCVID is given on
    request only: that form was taken from published programs that read these two files, not from
    the files themselves, and whether another of them names the classes is not known, so write the
    names in the order of the columns to `classInd.txt` or `classes.txt`; without, classes are
    called by their numbers. As in the released lists, the test videos are called `validation`; of
    several labels the one of the smallest number is the main one. One frame a second is kept.

    Or the lists of the released AR-Net: `classInd.txt`, `fcvid_train_split.txt`,
    `fcvid_val_split.txt` (rows of `name,frames,label[,label...]`) and
    `frames/<name>/image_00001.jpg`.
    """

    name = "fcvid"
    LISTS = {"train": "fcvid_train_split.txt", "validation": "fcvid_val_split.txt"}
    SEPARATOR = ","
    FRAME_NAME = "image_{:05d}.jpg"
    OFFICIAL = f"{_SPLITS} with {_LABELS}"
    VIDEO_RATE = 1.0

    def read_official(self, classes: list[str] | None) -> tuple[list[Entry], list[str]] | None:
        """Reads the official files."""
        for folder in (self.root, self.root / "materials"):
            splits, labels = folder / _SPLITS, folder / _LABELS
            if splits.is_file():
                if not labels.is_file():
                    raise UserError(f"{labels}: missing; {_SPLITS} alone tells no labels")
                return read_fcvid(splits, labels, classes)
        return None
