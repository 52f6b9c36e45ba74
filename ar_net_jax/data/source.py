"""Random access to the examples of a prepared split, frames still compressed."""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from tensorflow_datasets.proto import tf_example_pb2

from ar_net_jax.data.storing.frames import FrameFiles, StoredFrames
from ar_net_jax.errors import UserError

FRAMES = "frames"
# Nothing is read ahead of a record, and of a footer no more than there is.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0,footer_prefetch_bytes:0"
_BUFFER_BYTES = 4096


class VideoExample(TypedDict):
    """One stored video.

    Keys: `frames`, JPEG bytes in order of time, each read from disk when it is asked for; `labels`,
    int32 [L], the main one first; `name`; and `num_frames`, their number.
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


class _IndexFiles:
    """TFDS's files of a split, for single records; each is opened when it is first read.

    TFDS's own reader reads 32 kB around each example, of which there are some 200 bytes.
    """

    def __init__(self, paths: Sequence[str], lengths: Sequence[int]) -> None:
        self._place = (paths, lengths)
        self._ends = list(itertools.accumulate(lengths))
        self._open: dict[int, ArrayRecordReader] = {}

    def __reduce__(self) -> tuple[type["_IndexFiles"], tuple[Sequence[str], Sequence[int]]]:
        return _IndexFiles, self._place

    @property
    def num_records(self) -> int:
        return self._ends[-1]

    def read(self, index: int) -> bytes:
        number = bisect.bisect_right(self._ends, index)
        reader = self._open.get(number)
        if reader is None:
            path = self._place[0][number]
            reader = ArrayRecordReader(
                path, options=_READER_OPTIONS, file_reader_buffer_size=_BUFFER_BYTES
            )
            # Where threads open it at once, one stays.
            reader = self._open.setdefault(number, reader)
        return reader.read([index - self._ends[number] + self._place[1][number]])[0]


class VideoSource:
    """A prepared split: the `Videos` that are stored for it.

    To open it takes as long for any number of frames. It may be read by several threads, and be
    sent to other processes.

    Attributes:
        split: name of the split.
        class_names: in the order of the labels.
        max_labels: most labels that a video of the data set has.
        identity: digest of what the split is: names of classes and videos, labels, every frame.
    """

    def __init__(self, builder_dir: str | Path, split: str) -> None:
        """Opens a split.

        Args:
            builder_dir: where its data set was built.
            split: its name.

        Raises:
            UserError: there is no such split, or the data set was prepared by an earlier version.
        """
        builder = tfds.builder_from_directory(builder_dir)
        metadata = builder.info.metadata or {}
        if "identity" not in metadata:
            raise UserError(
                f"{builder_dir}: prepared by an earlier version, which stored all frames of a "
                "video as one; prepare it again from its source"
            )
        if split not in builder.info.splits:
            raise UserError(
                f"{builder_dir}: no split {split!r}; there are {', '.join(builder.info.splits)}"
            )
        self.split = split
        self.class_names: list[str] = builder.info.features["labels"].feature.names
        self.max_labels = int(metadata["max_labels"])
        self.identity: str = metadata["identity"][split]
        stored = builder.info.splits[split]
        self._index = _IndexFiles(sorted(map(str, stored.filepaths)), stored.shard_lengths)
        self._files = FrameFiles(Path(builder_dir, FRAMES), split, metadata["frame_files"][split])

    def __len__(self) -> int:
        return self._index.num_records

    def __getitem__(self, index: int) -> VideoExample:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)} in split {self.split!r}")
        feature = tf_example_pb2.Example.FromString(self._index.read(index)).features.feature

        def number(name: str) -> int:
            return feature[name].int64_list.value[0]

        num_frames = number("num_frames")
        return VideoExample(
            frames=StoredFrames(self._files, number("shard"), number("first_frame"), num_frames),
            labels=np.asarray(feature["labels"].int64_list.value, np.int32),
            name=feature["name"].bytes_list.value[0].decode(),
            num_frames=num_frames,
        )
