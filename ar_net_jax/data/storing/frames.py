"""Stored frames, read one by one: what is not asked for is not read."""

import collections
import functools
import operator
import os
import resource
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

from ar_net_jax.data.storing.places import read_record
from ar_net_jax.data.storing.shards import frame_file_name, places_file_name

_MOST_OPEN = 4096


@functools.cache
def _most_open() -> int:
    """How many pairs of files stay open: a quarter of what may be; others need some too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_OPEN if soft == resource.RLIM_INFINITY else max(1, min(_MOST_OPEN, soft // 4))


class _Opened:
    """A frame file and the places in it; closed when nobody reads from it any more."""

    def __init__(self, *paths: Path) -> None:
        self._descriptors: list[int] = []
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._descriptors.append(descriptor)
            # Frames of a clip are far apart: what lies behind one would be read in vain.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, record: int) -> bytes:
        frames, places = self._descriptors
        return read_record(frames, places, record)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # Bound beforehand: when the interpreter ends, the module may be gone.
        for descriptor in self._descriptors:
            close(descriptor)


class FrameFiles:
    """The frame files of a split; each is opened when it is first read.

    Those read last stay open, as many as the limit of open files allows for. May be used by several
    threads, and be sent to other processes, which open files of their own.

    Args:
        folder: that holds the files.
        split: their name.
        count: how many there are.
    """

    def __init__(self, folder: Path, split: str, count: int) -> None:
        self._place = (folder, split, count)
        self._open: collections.OrderedDict[int, _Opened] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["FrameFiles"], tuple[Path, str, int]]:
        return FrameFiles, self._place

    def read(self, shard: int, record: int) -> bytes:
        """One frame.

        Args:
            shard: number of the file.
            record: place in it.

        Raises:
            OSError: the file is missing or cannot be read.
            ValueError: it is damaged.
        """
        return self._opened(shard).read(record)

    def _opened(self, shard: int) -> _Opened:
        with self._lock:
            if shard in self._open:
                self._open.move_to_end(shard)
                return self._open[shard]
        folder, split, count = self._place
        # Outside the lock: where files are far away, threads open several at once.
        opened = _Opened(
            folder / frame_file_name(split, shard, count),
            folder / places_file_name(split, shard, count),
        )
        with self._lock:
            opened = self._open.setdefault(shard, opened)
            self._open.move_to_end(shard)
            while len(self._open) > _most_open():
                self._open.popitem(last=False)
        return opened


class StoredFrames(Sequence[bytes]):
    """The frames of a stored video as JPEG bytes, each read when it is asked for.

    Args:
        files: that hold them.
        shard: which of the files.
        first: place of the first frame in it.
        count: number of frames.
    """

    def __init__(self, files: FrameFiles, shard: int, first: int, count: int) -> None:
        self._files, self._shard, self._first, self._count = files, shard, first, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: Any) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        place = operator.index(index)
        if not -self._count <= place < self._count:
            raise IndexError(f"frame {place} of {self._count}")
        return self._files.read(self._shard, self._first + place % self._count)
