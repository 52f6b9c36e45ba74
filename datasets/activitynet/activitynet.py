"""TensorFlow Datasets builder for ActivityNet-v1.3."""

from ar_net_jax.data.listing.official_files import Entry, read_activitynet
from ar_net_jax.data.listing.official_videos import listed_classes
from ar_net_jax.data.paper_sets import PaperSetBuilder

_OFFICIAL = "activity_net.v1-3.min.json"


class ActivityNet(PaperSetBuilder, skip_registration=True):
    """ActivityNet-v1.3: 200 classes of activities in untrimmed videos, up to 3 labels each.

    Either `activity_net.v1-3.min.json`, as it is published, with videos `v_<id>.*` anywhere below
    the folder: every frame is kept; the main label is the one of most annotated seconds; `testing`
    has no labels, so that `validation` is the split to test on, as in the paper. The classes are in
    the order of `classInd.txt` or `classes.txt`, or sorted, which is the released order.

    Or the lists of the released AR-Net: `classInd.txt`, `actnet_train_split.txt`,
    `actnet_val_split.txt` (rows of `name,frames,label[,label...]`) and
    `frames/<name>/image_00001.jpg`.
    """

    name = "activitynet"
    LISTS = {"train": "actnet_train_split.txt", "validation": "actnet_val_split.txt"}
    SEPARATOR = ","
    FRAME_NAME = "image_{:05d}.jpg"
    OFFICIAL = _OFFICIAL

    def read_official(self, classes: list[str] | None) -> tuple[list[Entry], list[str]] | None:
        """Reads the official file."""
        path = self.root / _OFFICIAL
        if not path.is_file():
            return None
        entries = read_activitynet(path)
        return entries, classes or listed_classes(entries)
