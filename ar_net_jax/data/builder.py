"""What all data set builders share: videos to ArrayRecord, bad ones counted, named and left out."""

import collections
import concurrent.futures
import dataclasses
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from PIL import Image

from ar_net_jax.errors import UserError

REPORT = "skipped.json"


@dataclasses.dataclass(frozen=True)
class Video:
    """A video to be stored.

    Attributes:
        name: unique within its split; what the example is called.
        path: the file, or the folder of its frames.
        labels: class indices, each once; cross-entropy and top-1 go by the first.
        num_frames: frames of the folder, where the split list tells it.
    """

    name: str
    path: Path
    labels: tuple[int, ...]
    num_frames: int = 0


# A video with its frames, or with what is wrong with it.
_Encoded = tuple[Video, list[bytes] | UserError]


@dataclasses.dataclass
class VideoConfig(tfds.core.BuilderConfig):
    """What to build from, common to all data sets.

    Attributes:
        source_dir: folder that holds the videos.
        max_bad_share: share of the videos that may fail before the build does.
        progress: whether to show a progress bar.
    """

    source_dir: str = ""
    max_bad_share: float = 0.05
    progress: bool = True


def encode_jpeg(pixels: np.ndarray | Image.Image, quality: int) -> bytes:
    """Compresses RGB pixels, uint8 [H, W, 3], as JPEG."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _ordered_map(
    work: Callable[[Video], _Encoded], videos: Iterable[Video], threads: int
) -> Iterator[_Encoded]:
    """`map` over threads, in order, at most a few results ahead of the reader."""
    pending: collections.deque[concurrent.futures.Future[_Encoded]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        try:
            for video in videos:
                pending.append(pool.submit(work, video))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


class VideoBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the builders in `datasets/`.

    A subclass lists its videos and classes and encodes a video's frames; the rest is here. Works
    without TensorFlow: frames are given as JPEG bytes and written as ArrayRecord.
    """

    VERSION = tfds.core.Version("1.0.0")
    CONFIG: ClassVar[type[VideoConfig]] = VideoConfig

    def __init__(self, *, data_dir: str | os.PathLike[str], config: VideoConfig):
        super().__init__(data_dir=data_dir, config=config)
        self._skipped: list[dict[str, str]] = []
        self._total = 0

    @property
    def root(self) -> Path:
        """The folder that holds the videos."""
        return Path(self.builder_config.source_dir)

    def list_classes(self) -> list[str]:
        """Class names in the order of the labels."""
        raise NotImplementedError

    def list_videos(self) -> dict[str, list[Video]]:
        """The videos of each split, in the order in which they are to be stored."""
        raise NotImplementedError

    def encode(self, video: Video) -> list[bytes]:
        """The frames of a video as JPEG.

        Raises:
            UserError: the video is bad; it is then left out and reported.
        """
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel(names=self.list_classes())
        features = {
            "frames": tfds.features.Sequence(
                tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
            ),
            "labels": tfds.features.Sequence(label),
            "name": tfds.features.Text(),
            "num_frames": np.int32,
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
        splits = {name: videos for name, videos in self.list_videos().items() if videos}
        self._total = sum(len(videos) for videos in splits.values())
        if not self._total:
            raise UserError(f"{self.root}: no videos found")
        longest = max(len(video.labels) for videos in splits.values() for video in videos)
        self.info.metadata["max_labels"] = longest
        return {name: self._generate_examples(name, videos) for name, videos in splits.items()}

    def _generate_examples(
        self, split: str, videos: list[Video]
    ) -> Iterator[tuple[int, dict[str, object]]]:
        def work(video: Video) -> _Encoded:
            try:
                return video, self.encode(video)
            except UserError as error:
                return video, error

        results = _ordered_map(work, videos, os.cpu_count() or 1)
        silent = not self.builder_config.progress
        stored = 0
        for video, frames in tqdm.tqdm(
            results, f"preparing {split}", len(videos), disable=silent, unit="video"
        ):
            if isinstance(frames, UserError):
                self._skip(split, video, str(frames))
                continue
            yield (
                stored,
                {
                    "frames": frames,
                    "labels": list(video.labels),
                    "name": video.name,
                    "num_frames": len(frames),
                },
            )
            stored += 1
        if not stored:
            raise UserError(f"{self.root}: every video of {split} is bad")

    def _skip(self, split: str, video: Video, reason: str) -> None:
        self._skipped.append({"split": split, "name": video.name, "reason": reason})
        allowed = self.builder_config.max_bad_share
        if len(self._skipped) > allowed * self._total:
            named = "; ".join(entry["reason"] for entry in self._skipped[:5])
            raise UserError(
                f"{self.root}: {len(self._skipped)} of {self._total} videos "
                f"are bad, more than max_bad_share={allowed:g} allows: {named}"
            )

    def _download_and_prepare(self, dl_manager: object, download_config: object) -> None:
        """Adds the report to the data set's folder before TFDS moves it into place."""
        super()._download_and_prepare(dl_manager=dl_manager, download_config=download_config)
        report = {"total": self._total, "bad": len(self._skipped), "skipped": self._skipped}
        Path(self.data_dir, REPORT).write_text(json.dumps(report, indent=1))
