"""Stored frames, read one by one: what is not asked for is not read."""

import collections
import functools
import operator
import resource
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from array_record.python.array_record_module import ArrayRecordReader

from ar_net_jax.data.shards import frame_file_name

# Nothing is read ahead, and of a footer no more than there is. To leave the footer on disk
# (index_storage_option:offloaded) was seen to read all of it again for every frame.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0,footer_prefetch_bytes:0"
_BUFFER_BYTES = 4096
_MOST_OPEN = 4096


@functools.cache
def _most_open() -> int:
    """How many files may be kept open: half of what the process may, for others need some too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_OPEN if soft == resource.RLIM_INFINITY else max(1, min(_MOST_OPEN, soft // 2))


class FrameFiles:
    """The frame files of a split; each is opened when it is first read.

    Those read last stay open, as many as the limit of open files allows for, because to open one
    means to read its footer. May be used by several threads, and be sent to other processes, which
    open files of their own.

    Args:
        folder: that holds the files.
        split: their name.
        count: how many there are.
    """

    def __init__(self, folder: Path, split: str, count: int) -> None:
        self._place = (folder, split, count)
        self._open: collections.OrderedDict[int, ArrayRecordReader] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["FrameFiles"], tuple[Path, str, int]]:
        return FrameFiles, self._place

    def read(self, shard: int, record: int) -> bytes:
        """One frame.

        Args:
            shard: number of the file.
            record: place in it.

        Raises:
            Exception: of ArrayRecord, if the file is missing or damaged.
        """
        return self._reader(shard).read([record])[0]

    def _reader(self, shard: int) -> ArrayRecordReader:
        with self._lock:
            if shard in self._open:
                self._open.move_to_end(shard)
                return self._open[shard]
        folder, split, count = self._place
        path = folder / frame_file_name(split, shard, count)
        # Outside the lock: where files are far away, threads open several at once.
        reader = ArrayRecordReader(
            str(path), options=_READER_OPTIONS, file_reader_buffer_size=_BUFFER_BYTES
        )
        with self._lock:
            reader = self._open.setdefault(shard, reader)
            self._open.move_to_end(shard)
            while len(self._open) > _most_open():
                # It is closed once no thread reads from it any more.
                self._open.popitem(last=False)
        return reader


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
