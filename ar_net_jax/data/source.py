"""Random access to the examples of a prepared split, frames still compressed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from ar_net_jax.errors import UserError


class VideoExample(TypedDict):
    """One stored video.

    Keys: `frames`, JPEG bytes in order of time; `labels`, int32 [L], the main one first;
    `name`; and `num_frames`, their number.
    """

    frames: Sequence[bytes]
    labels: np.ndarray
    name: str
    num_frames: int


class Videos(Protocol):
    """A split as batches are made from it: a sequence of `VideoExample`s.

    Attributes:
        split: name of the split.
        max_labels: most labels that a video of the data set has.
    """

    split: str
    max_labels: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> VideoExample: ...


class VideoSource:
    """A prepared split: the `Videos` that are stored for it.

    Records are parsed here and not by TFDS, whose reader without TensorFlow decodes every image of
    an example: only the frames that are sampled should be.

    Attributes:
        split: name of the split.
        class_names: in the order of the labels.
        max_labels: most labels that a video of the data set has.
    """

    def __init__(self, builder_dir: str | Path, split: str) -> None:
        """Opens a split.

        Args:
            builder_dir: where its data set was built.
            split: its name.

        Raises:
            UserError: there is no such split.
        """
        builder = tfds.builder_from_directory(builder_dir)
        if split not in builder.info.splits:
            raise UserError(
                f"{builder_dir}: no split {split!r}; there are {', '.join(builder.info.splits)}"
            )
        self.split = split
        self.class_names: list[str] = builder.info.features["labels"].feature.names
        self.max_labels = int(builder.info.metadata["max_labels"])
        self._records = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> VideoExample:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)} in split {self.split!r}")
        feature = tf_example_pb2.Example.FromString(self._records[index]).features.feature
        return VideoExample(
            frames=feature["frames"].bytes_list.value,
            labels=np.asarray(feature["labels"].int64_list.value, np.int32),
            name=feature["name"].bytes_list.value[0].decode(),
            num_frames=feature["num_frames"].int64_list.value[0],
        )
