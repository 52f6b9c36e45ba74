"""Predictions as one JSON document that grows: it is whole after every video."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ar_net_jax.inference.predict import PredictedVideo, UnreadVideo


class PredictionsFile:
    """`{"plan": ..., "videos": [...], "unread": [...]}`, written video by video; a context manager.

    What comes next overwrites only the document's last line, so that whoever reads it, or a run
    that was killed, finds all videos so far. An earlier file is replaced with the first video.
    """

    def __init__(self, path: str | Path, plan: Mapping[str, Any] | None = None) -> None:
        """Writes nothing yet.

        Args:
            path: of the file, a local one.
            plan: how the model ran, see `describe_plan`.
        """
        self._path = Path(path)
        self._begin = f'{{"plan": {json.dumps(plan)}, "videos": ['
        self._file: IO[str] | None = None
        self._end = 0
        self._count = 0
        self._unread: list[dict[str, Any]] = []

    def add(self, video: PredictedVideo | UnreadVideo) -> None:
        """Adds a video, or a file that could not be read.

        Raises:
            OSError: it cannot be written.
        """
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8")
            self._end = self._file.write(self._begin)
        entry = ""
        if isinstance(video, UnreadVideo):
            self._unread.append(dataclasses.asdict(video))
        else:
            comma = "," if self._count else ""
            # ASCII, so that characters are bytes, and the place of the end is known.
            entry = f"{comma}\n{json.dumps(dataclasses.asdict(video))}"
            self._count += 1
        self._file.seek(self._end)
        self._file.write(f'{entry}\n], "unread": {json.dumps(self._unread)}}}\n')
        self._file.flush()
        self._end += len(entry)

    def __enter__(self) -> "PredictionsFile":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
