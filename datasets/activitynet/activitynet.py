"""TensorFlow Datasets builder for ActivityNet-v1.3 in the layout of the released AR-Net."""

from ar_net_jax.data.frame_folder import FrameFolderBuilder


class ActivityNet(FrameFolderBuilder, skip_registration=True):
    """ActivityNet-v1.3: 200 classes of activities in untrimmed videos, up to 3 labels each.

    Expects `classInd.txt`, `actnet_train_split.txt`, `actnet_val_split.txt` (rows of
    `name,frames,label[,label...]`) and `frames/<name>/image_00001.jpg`.
    """

    name = "activitynet"
    LISTS = {"train": "actnet_train_split.txt", "validation": "actnet_val_split.txt"}
    SEPARATOR = ","
    FRAME_NAME = "image_{:05d}.jpg"
