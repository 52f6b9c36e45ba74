"""TensorFlow Datasets builder for Mini-Kinetics."""

from ar_net_jax.data.listing.official_files import Entry, is_kinetics, read_kinetics
from ar_net_jax.data.listing.official_videos import listed_classes
from ar_net_jax.data.paper_sets import PaperSetBuilder

_NUM_CLASSES = 200


class MiniKinetics(PaperSetBuilder, skip_registration=True):
    """Mini-Kinetics: 200 classes of Kinetics-400, one label to a video.

    Either the official lists of Kinetics, `*.csv` with the columns `label,youtube_id,time_start,
    time_end,split`, in the folder or in `annotations` below it, with videos
    `<id>_<start>_<end>.*` (times of six digits) anywhere below the folder: every frame is kept. The
    200 classes are those of `classes.txt` (or the released `minik_classInd.txt`), which you write,
    in that order; without it all classes of the lists are taken, sorted.

    Or the lists of the released AR-Net: `mini_train_videofolder.txt`, `mini_val_videofolder.txt`
    (rows of `name frames label`, names may hold spaces) and `frames/<name>/00001.jpg`. These do not
    name the classes: without one of the lists above they are called by their number.
    """

    name = "mini_kinetics"
    LISTS = {"train": "mini_train_videofolder.txt", "validation": "mini_val_videofolder.txt"}
    SEPARATOR = " "
    FRAME_NAME = "{:05d}.jpg"
    CLASS_LISTS = ("minik_classInd.txt", "classes.txt")
    OFFICIAL = "lists of Kinetics (*.csv with a column youtube_id)"
    IS_SUBSET = True

    def read_official(self, classes: list[str] | None) -> tuple[list[Entry], list[str]] | None:
        """Reads every list of Kinetics."""
        folders = (self.root, self.root / "annotations")
        files = [path for folder in folders for path in sorted(folder.glob("[!.]*.csv"))]
        entries = [entry for path in files if is_kinetics(path) for entry in read_kinetics(path)]
        return (entries, classes or listed_classes(entries)) if entries else None

    def number_classes(self) -> list[str]:
        """The numbers of the classes."""
        return [str(i) for i in range(_NUM_CLASSES)]

    def parse_row(self, row: str) -> tuple[str, int, list[int]]:
        """Takes the last two fields off; what is left is the name."""
        name, num_frames, label = row.rsplit(self.SEPARATOR, 2)
        return name, int(num_frames), [int(label)]
