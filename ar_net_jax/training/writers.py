"""The history of a training: scalars for TensorBoard and as JSON lines, examples of each step.

`clu.metric_writers` would do for the scalars, but importing it imports TensorFlow.
"""

import contextlib
import io
import json
import logging
import math
import os
import types
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Self

import jax
import numpy as np
import tensorboardX
from etils import epath
from tensorboardX import record_writer

from ar_net_jax.runtime.storage import is_remote, write_whole

HISTORY = "metrics.jsonl"
# A prefix by which tensorboardX finds our writer.
_LOCAL = "disk"


class StepLines:
    """A file of JSON lines, each with the `step` it belongs to.

    A run that was killed has written lines of steps after its last checkpoint, which the next run
    repeats. They are dropped on resume, so that the file reads as that of one run.
    """

    def __init__(self, path: epath.PathLike, resume_step: int | None = None) -> None:
        """Opens the file.

        Args:
            path: local or in a bucket; files cannot grow there, so each `flush` writes it anew.
            resume_step: drops the lines of later steps; None starts the file anew.
        """
        self._path = epath.Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = _lines_until(self._path, -1 if resume_step is None else resume_step)
        self._file, self._text = None, "".join(kept)
        if is_remote(self._path):
            return
        # In one move, so that a kill while rewriting does not lose the history.
        write_whole(self._path, self._text)
        self._file = open(self._path, "a", encoding="utf-8")

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds a line."""
        line = json.dumps({"step": int(step), **values}) + "\n"
        if self._file is None:
            self._text += line
        else:
            self._file.write(line)
            self._file.flush()

    def flush(self) -> None:
        """Makes the lines so far survive a kill."""
        if self._file is None:
            self._path.write_text(self._text)

    def close(self) -> None:
        """Writes out what is pending."""
        self.flush()
        if self._file is not None:
            self._file.close()


class ScalarWriter:
    """Writes scalars below a work directory; only the first process of a job writes."""

    def __init__(
        self,
        workdir: epath.PathLike,
        *,
        resume_step: int | None = None,
        process_index: int | None = None,
    ):
        """Opens the history.

        Args:
            workdir: gets `metrics.jsonl` and TensorBoard's `events.out.tfevents.*`.
            resume_step: step of the checkpoint that the run resumes from; what was written for
                later steps is dropped. None starts the history anew.
            process_index: rank of this process; `jax.process_index()` by default.
        """
        self._lines = None
        if process_index is None:
            process_index = jax.process_index()
        if process_index != 0:
            return
        folder = epath.Path(workdir)
        self._lines = StepLines(folder / HISTORY, resume_step)
        purge_step = 0 if resume_step is None else resume_step + 1
        place = os.fspath(folder) if is_remote(folder) else f"{_LOCAL}:{os.fspath(folder)}"
        self._events = tensorboardX.SummaryWriter(place, purge_step=purge_step, flush_secs=10)

    def write(self, step: int, scalars: Mapping[str, Any], *, stage: str = "") -> None:
        """Writes one line and one TensorBoard point per scalar.

        Args:
            step: of the stage.
            scalars: name -> number (Python, numpy or a fetched array of one element).
            stage: part of the run, such as "joint"; goes before the name in TensorBoard.
        """
        if self._lines is None:
            return
        values = {name: float(value) for name, value in scalars.items()}
        # JSON has no NaN or infinity; with null, any reader can read the line.
        finite = {name: v if math.isfinite(v) else None for name, v in values.items()}
        self._lines.add(step, {"stage": stage} | finite)
        self.write_events(step, values, stage=stage)

    def write_events(self, step: int, scalars: Mapping[str, Any], *, stage: str = "") -> None:
        """As `write`, for TensorBoard alone: speeds and times, which differ from run to run.

        Without them, the JSON lines of a run that was interrupted equal those of one that was not.
        """
        if self._lines is None:
            return
        for name, value in scalars.items():
            tag = f"{stage}/{name}" if stage else name
            self._events.add_scalar(tag, float(value), global_step=int(step))

    def flush(self) -> None:
        """Makes what was written so far survive a kill."""
        if self._lines is not None:
            self._lines.flush()

    def close(self) -> None:
        """Writes out what is pending."""
        if self._lines is not None:
            self._lines.close()
            self._events.close()
            self._lines = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()


class ExampleLog:
    """Writes which examples each step was given; each process those of its own rows."""

    def __init__(self, folder: epath.PathLike, resume_step: int) -> None:
        """Opens `examples_<process>.jsonl`, and drops the lines of steps after `resume_step`."""
        name = f"examples_{jax.process_index()}.jsonl"
        self._lines = StepLines(epath.Path(folder) / name, resume_step)

    def write(self, step: int, batch: Mapping[str, jax.Array]) -> None:
        """Adds the line of a step: `epoch` and `example_id` of this process's rows, in order."""
        fields = ("epoch", "example_id")
        self._lines.add(step, {name: _own_rows(batch[name]).tolist() for name in fields})

    def flush(self) -> None:
        """Makes what was written so far survive a kill."""
        self._lines.flush()

    def close(self) -> None:
        """Writes out what is pending."""
        self._lines.close()


class _BucketEvents:
    """An event file in a bucket, written anew by each flush because it cannot grow there.

    With tensorboardX's own writer for buckets, the thread that uploads ends at the first failure,
    and the training then waits for it for ever.
    """

    def __init__(self, path: str) -> None:
        self._path, self._data = epath.Path(path), io.BytesIO()

    def write(self, data: bytes) -> None:
        """Adds to the file."""
        self._data.write(data)

    def flush(self) -> None:
        """Uploads the file so far; if that fails, the next flush uploads it all again."""
        try:
            self._path.write_bytes(self._data.getvalue())
        except Exception as error:  # Of gcsfs, aiohttp, google.auth, or an OSError.
            logging.warning("%s: could not be written (%s)", self._path, error)

    def close(self) -> None:
        """Uploads what is pending."""
        self.flush()


class _BucketEventsFactory:
    """The factory through which tensorboardX opens event files in buckets."""

    open = staticmethod(_BucketEvents)

    def directory_check(self, path: str) -> None:
        """Does nothing: folders in a bucket need not be made."""


class _LocalEvents:
    """An event file on a disk, which may become full.

    With tensorboardX's own writer the thread that writes would end with a traceback, and the
    training wait for it for ever. What counts is in `metrics.jsonl`, whose writing says what to do.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: BinaryIO | None = open(path, "wb")

    def write(self, data: bytes) -> None:
        """Adds to the file."""
        self._try(lambda file: file.write(data))

    def flush(self) -> None:
        """Hands what is pending to the operating system."""
        self._try(lambda file: file.flush())

    def close(self) -> None:
        """Writes out what is pending."""
        self._try(lambda file: file.close())

    def _try(self, write: Callable[[BinaryIO], object]) -> None:
        """Does something with the file; after the first failure, nothing any more."""
        if self._file is None:
            return
        try:
            write(self._file)
        except OSError as error:
            logging.warning("%s: TensorBoard's file ends here (%s)", self._path, error.strerror)
            # What is pending fails once more, and then no more when the object goes.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


class _LocalEventsFactory:
    """The factory through which tensorboardX opens event files on a disk."""

    def open(self, path: str) -> _LocalEvents:
        """The file of a path with the prefix."""
        return _LocalEvents(path.removeprefix(f"{_LOCAL}:"))

    def directory_check(self, path: str) -> None:
        """Makes the folder."""
        os.makedirs(path.removeprefix(f"{_LOCAL}:"), exist_ok=True)


record_writer.register_writer_factory("gs", _BucketEventsFactory())
record_writer.register_writer_factory(_LOCAL, _LocalEventsFactory())


def _own_rows(column: jax.Array) -> np.ndarray:
    shards = sorted(column.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def _lines_until(path: epath.Path, last_step: int) -> list[str]:
    """The lines of steps up to `last_step`, without a last one that a kill cut short."""
    if not path.exists():
        return []
    return [
        line
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n") and json.loads(line)["step"] <= last_step
    ]
