"""Videos before they are stored: what a builder has listed, and what became of each."""

import dataclasses
import hashlib
import os
from pathlib import Path


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


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Something that was found or listed, and is not in the data set.

    Attributes:
        split: that it would belong to.
        name: of the video or the file, as the data set calls it.
        class_name: of its main label; None where that is not known.
        reason: what is wrong, without the name.
        bad: whether it counts against `max_bad_share`; what is no video, or what a rule leaves
            out, does not.
        missing: whether it is listed and not there, which counts against `max_missing_share`.
    """

    split: str
    name: str
    class_name: str | None
    reason: str
    bad: bool = True
    missing: bool = False


@dataclasses.dataclass(frozen=True)
class Listing:
    """What there is to store.

    Attributes:
        classes: their names in the order of the labels.
        splits: the videos of each split, in order; none is empty.
        left_out: what the listing alone leaves out.
        notes: what was assumed, a line each, for the terminal and the report.
    """

    classes: list[str]
    splits: dict[str, list[Video]]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SourceState:
    """How a video's source is at present.

    Attributes:
        size: bytes, over all frames of a folder; 0 if it is not there.
        digest: hexadecimal; another one once a file was added, removed, or written to.
    """

    size: int
    digest: str


def source_state(path: Path) -> SourceState:
    """Looks at a video file, or at every file of a folder of frames, without reading any.

    Sizes and times of change are taken, so a file that was written to again differs, even where
    its size does not.
    """
    try:
        found = path.stat()
    except OSError as error:
        return SourceState(0, f"errno {error.errno}")
    if not path.is_dir():
        return SourceState(found.st_size, f"{found.st_size} {found.st_mtime_ns}")
    entries, total = [], 0
    with os.scandir(path) as folder:
        for entry in folder:
            frame = entry.stat()
            entries.append((entry.name, frame.st_size, frame.st_mtime_ns))
            total += frame.st_size
    entries.sort()
    return SourceState(total, hashlib.blake2b(repr(entries).encode(), digest_size=16).hexdigest())
