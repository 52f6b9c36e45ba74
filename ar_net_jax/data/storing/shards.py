"""Frames as they are stored: files in which every frame is a record of its own.

A frame file, `<split>.array_record-KKKKK-of-NNNNN`, holds the frames of a run of videos one after
the other, as JPEG bytes, each read by itself; `<split>.places-KKKKK-of-NNNNN` beside it tells where
each lies (see `places`). Which videos go into which file follows from the listing alone, so
that however the work is shared out, and however often it is taken up again, the files are the same
to the last bit. To write one is the unit of work: a file is there in full or not at all, and until
the data set is whole, a record tells of its videos, the last thing written.
"""

import dataclasses
import hashlib
import json
import tempfile
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO

from array_record.python.array_record_module import ArrayRecordWriter

from ar_net_jax.data.storing.places import find_places
from ar_net_jax.data.videos import Video
from ar_net_jax.errors import UserError

# Bytes of video files, or of frames in folders, that go into one frame file: a minute's work.
_SHARD_BYTES = 32 * 2**20
_SHARD_VIDEOS = 512
# A small data set has at least so many, that all cores may have work.
_FEWEST_SHARDS = 16
# JPEG bytes do not shrink any further.
_WRITER_OPTIONS = "group_size:1,uncompressed"
# Frames of a video that are kept in memory until it is known to be whole; the rest goes to disk.
_SPOOL_BYTES = 64 * 2**20

Encode = Callable[[Video], Iterable[bytes]]


@dataclasses.dataclass(frozen=True)
class StoredVideo:
    """A video whose frames are stored; an example of the index.

    Attributes:
        name: as of `Video`.
        labels: as of `Video`.
        num_frames: how many are stored.
        shard: number of the frame file.
        first_frame: place of the first frame in it.
        digest: of all frames, hexadecimal.
    """

    name: str
    labels: tuple[int, ...]
    num_frames: int
    shard: int
    first_frame: int
    digest: str


@dataclasses.dataclass(frozen=True)
class Shard:
    """The unit of work: a frame file to be written.

    Attributes:
        split: of its videos.
        number: K, from 0.
        count: N, of the split.
        videos: whose frames it holds, in order.
        size: bytes of their sources.
    """

    split: str
    number: int
    count: int
    videos: tuple[Video, ...]
    size: int

    @property
    def file_name(self) -> str:
        """Of the frame file."""
        return frame_file_name(self.split, self.number, self.count)


@dataclasses.dataclass(frozen=True)
class ShardRecord:
    """What became of a shard's videos.

    Attributes:
        stored: those in the frame file. If there are none, there is no file.
        failed: name and reason of those that were left out.
    """

    stored: tuple[StoredVideo, ...]
    failed: tuple[tuple[str, str], ...]


def frame_file_name(split: str, number: int, count: int) -> str:
    """The name of a frame file.

    >>> frame_file_name("train", 3, 16)
    'train.array_record-00003-of-00016'
    """
    return f"{split}.array_record-{number:05d}-of-{count:05d}"


def places_file_name(split: str, number: int, count: int) -> str:
    """The name of the file that tells where in a frame file its frames lie.

    >>> places_file_name("train", 3, 16)
    'train.places-00003-of-00016'
    """
    return f"{split}.places-{number:05d}-of-{count:05d}"


def plan_shards(split: str, videos: Sequence[Video], sizes: Sequence[int]) -> list[Shard]:
    """Cuts a split into runs of videos, by the bytes of their sources.

    Args:
        split: its name.
        videos: in order.
        sizes: bytes of each one's source.
    """
    most_videos = max(1, min(_SHARD_VIDEOS, len(videos) // _FEWEST_SHARDS))
    most_bytes = min(_SHARD_BYTES, sum(sizes) // _FEWEST_SHARDS)
    runs: list[list[int]] = []
    filled = 0
    for index, size in enumerate(sizes):
        if not runs or len(runs[-1]) == most_videos or filled + size > most_bytes:
            runs.append([])
            filled = 0
        runs[-1].append(index)
        filled += size
    return [
        Shard(
            split,
            number,
            len(runs),
            tuple(videos[index] for index in run),
            sum(sizes[index] for index in run),
        )
        for number, run in enumerate(runs)
    ]


def identity(classes: Sequence[str], stored: Iterable[StoredVideo]) -> str:
    """A digest of what a split is: names of classes and videos, labels, and every frame.

    Returns:
        32 hexadecimal digits; equal for equal data, wherever and from whatever it was prepared.
    """
    content = hashlib.blake2b(repr(list(classes)).encode(), digest_size=16)
    for video in stored:
        content.update(repr((video.name, video.labels, video.num_frames, video.digest)).encode())
    return content.hexdigest()


class Work:
    """The folder in which frame files are gathered until the data set is whole.

    Args:
        folder: made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frames, self._records = folder / "frames", folder / "records"
        for part in (self.frames, self._records):
            part.mkdir(parents=True, exist_ok=True)

    def clean(self) -> None:
        """Removes what killed writers left; to be called while none is at work."""
        for part in (self.frames, self._records):
            for path in part.glob(".*.new"):
                path.unlink()

    def record(self, shard: Shard) -> ShardRecord | None:
        """What became of a shard's videos; None if it is still to be written."""
        try:
            told = json.loads(self._record_path(shard).read_text())
        except FileNotFoundError:
            return None
        stored = [StoredVideo(**{**v, "labels": tuple(v["labels"])}) for v in told["stored"]]
        return ShardRecord(tuple(stored), tuple((name, why) for name, why in told["failed"]))

    def write(self, shard: Shard, encode: Encode, pulse: Callable[[], None]) -> ShardRecord:
        """Writes a shard's frame file, and then its record.

        Args:
            shard: what to write.
            encode: gives the frames of a video, or raises UserError if it is bad.
            pulse: called after every frame; what it raises ends the work, and nothing is left.
        """
        stored: list[StoredVideo] = []
        failed: list[tuple[str, str]] = []
        path = self.frames / shard.file_name
        fresh = _fresh(path)
        writer: ArrayRecordWriter | None = None
        written: list[int] = []
        try:
            for video in shard.videos:
                with tempfile.SpooledTemporaryFile(_SPOOL_BYTES, dir=str(self.folder)) as spool:
                    try:
                        lengths, digest = _spool(spool, encode(video), pulse)
                    except UserError as error:
                        failed.append((video.name, reason_of(video, error)))
                        continue
                    writer = writer or ArrayRecordWriter(str(fresh), _WRITER_OPTIONS)
                    spool.seek(0)
                    for length in lengths:
                        writer.write(spool.read(length))
                place = (len(lengths), shard.number, len(written), digest)
                stored.append(StoredVideo(video.name, video.labels, *place))
                written += lengths
            if writer is not None:
                writer.close()
                places = places_file_name(shard.split, shard.number, shard.count)
                _put(self.frames / places, find_places(fresh, written).tobytes())
                fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        record = ShardRecord(tuple(stored), tuple(failed))
        _put(self._record_path(shard), json.dumps(dataclasses.asdict(record)).encode())
        return record

    def _record_path(self, shard: Shard) -> Path:
        return self._records / f"{shard.file_name}.json"


def _fresh(path: Path) -> Path:
    """A new name beside a file: a runner of Beam may give one shard to two workers at once."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.new")


def _put(path: Path, content: bytes) -> None:
    fresh = _fresh(path)
    fresh.write_bytes(content)
    fresh.replace(path)


def _spool(
    spool: IO[bytes], frames: Iterable[bytes], pulse: Callable[[], None]
) -> tuple[list[int], str]:
    """Keeps a video's frames aside until it has shown itself whole; their lengths and digest."""
    content = hashlib.blake2b(digest_size=16)
    lengths = []
    for frame in frames:
        spool.write(frame)
        lengths.append(len(frame))
        content.update(frame)
        pulse()
    if not lengths:
        raise UserError("holds no frames")
    # Where one frame ends and the next begins belongs to the content.
    content.update(repr(lengths).encode())
    return lengths, content.hexdigest()


def reason_of(video: Video, error: UserError) -> str:
    """What is wrong with a video, without its name, which is told beside it."""
    return str(error).removeprefix(f"{video.path}").removeprefix(": ").lstrip("/")
