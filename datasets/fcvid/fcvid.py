"""TensorFlow Datasets builder for FCVID in the layout of the released AR-Net."""

from ar_net_jax.data.frame_folder import FrameFolderBuilder


class Fcvid(FrameFolderBuilder, skip_registration=True):
    """FCVID: 239 classes of web videos, frames taken at one per second.

    Expects `classInd.txt`, `fcvid_train_split.txt`, `fcvid_val_split.txt` (rows of
    `name,frames,label[,label...]`) and `frames/<name>/image_00001.jpg`.
    """

    name = "fcvid"
    LISTS = {"train": "fcvid_train_split.txt", "validation": "fcvid_val_split.txt"}
    SEPARATOR = ","
    FRAME_NAME = "image_{:05d}.jpg"
