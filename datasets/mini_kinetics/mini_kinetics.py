"""TensorFlow Datasets builder for Mini-Kinetics in the layout of the released AR-Net."""

from ar_net_jax.data.frame_folder import FrameFolderBuilder

_NUM_CLASSES = 200


class MiniKinetics(FrameFolderBuilder, skip_registration=True):
    """Mini-Kinetics: 200 classes of Kinetics-400, one label to a video.

    Expects `mini_train_videofolder.txt`, `mini_val_videofolder.txt` (rows of `name frames label`,
    names may hold spaces) and `frames/<name>/00001.jpg`. The lists do not name the classes: they
    are called by their number.
    """

    name = "mini_kinetics"
    LISTS = {"train": "mini_train_videofolder.txt", "validation": "mini_val_videofolder.txt"}
    SEPARATOR = " "
    FRAME_NAME = "{:05d}.jpg"

    def list_classes(self) -> list[str]:
        """The numbers of the classes."""
        return [str(i) for i in range(_NUM_CLASSES)]

    def parse_row(self, row: str) -> tuple[str, int, list[int]]:
        """Takes the last two fields off; what is left is the name."""
        name, num_frames, label = row.rsplit(self.SEPARATOR, 2)
        return name, int(num_frames), [int(label)]
