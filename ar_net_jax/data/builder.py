"""What all data set builders share: a subclass lists and encodes videos, the rest is here."""

import dataclasses
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.writer import ExampleWriter
from tensorflow_datasets.proto import tf_example_pb2

from ar_net_jax.data.storing.shards import StoredVideo, identity
from ar_net_jax.data.videos import LeftOut, Listing, Video
from ar_net_jax.errors import UserError

__all__ = ["LeftOut", "Video", "VideoBuilder", "VideoConfig", "encode_jpeg"]


@dataclasses.dataclass
class VideoConfig(tfds.core.BuilderConfig):
    """What to build from, common to all data sets.

    Attributes:
        source_dir: folder that holds the videos.
    """

    source_dir: str = ""


def encode_jpeg(pixels: np.ndarray | Image.Image, quality: int) -> bytes:
    """Compresses RGB pixels, uint8 [H, W, 3], as JPEG."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


class _OrderedWriter(ExampleWriter):
    """Writes equal examples as equal bytes.

    By itself, a protocol buffer orders the fields of a map differently in every process.
    """

    def write(self, path: os.PathLike[str], examples: Iterable[tuple[Any, bytes]]) -> Any:
        def ordered(example: bytes) -> bytes:
            message = tf_example_pb2.Example.FromString(example)
            return message.SerializeToString(deterministic=True)

        return super().write(path, ((key, ordered(example)) for key, example in examples))


class VideoBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the builders in `datasets/`.

    A subclass lists its videos and classes and encodes a video's frames; the rest is here. What
    TFDS writes is the index of the videos, one example each; their frames lie in files beside it
    (see `data.storing.shards`). Works without TensorFlow.
    """

    # 1.0.0 kept all frames of a video in one record.
    VERSION = tfds.core.Version("2.0.0")
    CONFIG: ClassVar[type[VideoConfig]] = VideoConfig

    def __init_subclass__(cls, **_: object) -> None:
        # Not made known to TFDS, not even where a worker process rebuilds a user's class.
        super().__init_subclass__(skip_registration=True)

    def __init__(self, *, data_dir: str | os.PathLike[str], config: VideoConfig):
        super().__init__(data_dir=data_dir, config=config)
        self._left_out: list[LeftOut] = []
        self._stored: Mapping[str, Sequence[StoredVideo]] = {}
        self._frame_files: Mapping[str, int] = {}
        self._finish: Callable[[Path], None]

    def __getstate__(self) -> dict[str, Any]:
        # What a worker process needs to encode: it neither lists nor asks TFDS for anything.
        return {"_builder_config": self.builder_config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def root(self) -> Path:
        """The folder that holds the videos."""
        return Path(self.builder_config.source_dir)

    def list_classes(self) -> list[str]:
        """Class names in the order of the labels."""
        raise NotImplementedError

    def list_videos(self) -> dict[str, list[Video]]:
        """The videos of each split, in the order in which they are to be stored.

        What was found, or listed, and is not among them is told to `leave_out`.
        """
        raise NotImplementedError

    def encode(self, video: Video) -> Iterable[bytes]:
        """The frames of a video as JPEG, one after the other: they need not fit into memory.

        Called in worker processes, on a copy of this builder that has `builder_config` and `root`.

        Raises:
            UserError: the video is bad; it is then left out, with all its frames, and reported.
        """
        raise NotImplementedError

    def leave_out(
        self, split: str, name: str, class_name: str | None, reason: str, *, bad: bool = True
    ) -> None:
        """Reports what `list_videos` leaves out; arguments as of `LeftOut`."""
        self._left_out.append(LeftOut(split, name, class_name, reason, bad))

    def listing(self) -> Listing:
        """What there is to store, and what the listing leaves out.

        Raises:
            UserError: there are no videos at all.
        """
        self._left_out = []
        splits = {split: videos for split, videos in self.list_videos().items() if videos}
        if not splits:
            told = f" ({self._left_out[0].reason})" if self._left_out else ""
            raise UserError(f"{self.root}: no videos found{told}")
        return Listing(self.list_classes(), splits, tuple(self._left_out))

    def write_index(
        self,
        stored: Mapping[str, Sequence[StoredVideo]],
        frame_files: Mapping[str, int],
        finish: Callable[[Path], None],
    ) -> None:
        """Has TFDS write the index of the videos to `data_path`.

        Args:
            stored: the videos of each split whose frames are stored, in order.
            frame_files: their number for each split.
            finish: given the folder, adds what else belongs to it before it is put in place.
        """
        self._stored, self._frame_files, self._finish = stored, frame_files, finish
        self.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(compute_stats="skip"),
        )

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel(names=self.list_classes())
        features = {
            "name": tfds.features.Text(),
            "labels": tfds.features.Sequence(label),
            "num_frames": np.int32,
            "shard": np.int32,
            "first_frame": np.int64,
            "digest": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            # Kept in order of the lists, so that an example's index is the same on every build.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, object]]]]:
        del dl_manager  # nothing is downloaded
        videos = [video for split in self._stored.values() for video in split]
        classes = self.info.features["labels"].feature.names
        self.info.metadata["max_labels"] = max(len(video.labels) for video in videos)
        self.info.metadata["frame_files"] = dict(self._frame_files)
        self.info.metadata["identity"] = {
            split: identity(classes, stored) for split, stored in self._stored.items()
        }
        return {split: self._generate_examples(stored) for split, stored in self._stored.items()}

    def _generate_examples(
        self, stored: Sequence[StoredVideo]
    ) -> Iterator[tuple[int, dict[str, object]]]:
        for index, video in enumerate(stored):
            yield index, {**dataclasses.asdict(video), "labels": list(video.labels)}

    def _example_writer(self) -> ExampleWriter:
        return _OrderedWriter(file_format=self.info.file_format)

    def _download_and_prepare(self, dl_manager: object, download_config: object) -> None:
        """Completes the data set's folder before TFDS moves it into place."""
        super()._download_and_prepare(dl_manager=dl_manager, download_config=download_config)
        self._finish(Path(self.data_dir))
