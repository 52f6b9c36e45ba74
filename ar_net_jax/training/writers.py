"""Scalars of a training run as TensorBoard event files and as JSON lines, without TensorFlow."""

import json
import math
import os
import pathlib
import types
from collections.abc import Mapping
from typing import Any, Self

import jax
import tensorboardX

HISTORY = "metrics.jsonl"


class ScalarWriter:
    """Writes scalars below a work directory; only the first process of a job writes.

    A run that was killed after its last checkpoint has written scalars for steps which the next
    run repeats. They are dropped on resume, so the history reads as that of one run.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        *,
        resume_step: int | None = None,
        process_index: int | None = None,
    ):
        """Opens the history.

        Args:
          workdir: gets `metrics.jsonl` and TensorBoard's `events.out.tfevents.*`.
          resume_step: step of the checkpoint the run goes on from: what was written for later
            steps is dropped. None starts the history anew.
          process_index: rank of this process; `jax.process_index()` by default.
        """
        self._lines = None
        if process_index is None:
            process_index = jax.process_index()
        if process_index != 0:
            return
        folder = pathlib.Path(workdir)
        folder.mkdir(parents=True, exist_ok=True)
        last_step = -1 if resume_step is None else resume_step
        history = folder / HISTORY
        _drop_after(history, last_step)
        self._lines = history.open("a", encoding="utf-8")
        self._events = tensorboardX.SummaryWriter(
            str(folder), purge_step=last_step + 1, flush_secs=10
        )

    def write(self, step: int, scalars: Mapping[str, Any], *, stage: str = "") -> None:
        """Writes one line and one TensorBoard point per scalar.

        Args:
          step: global step, also that of the checkpoint which covers it.
          scalars: name -> number (Python, numpy or a fetched array of one element).
          stage: part of the run, such as "joint"; goes before the name in TensorBoard.
        """
        if self._lines is None:
            return
        values = {name: float(value) for name, value in scalars.items()}
        # JSON knows no NaN or infinity; null keeps the line readable by any reader.
        finite = {name: v if math.isfinite(v) else None for name, v in values.items()}
        self._lines.write(json.dumps({"step": int(step), "stage": stage} | finite) + "\n")
        self._lines.flush()
        for name, value in values.items():
            tag = f"{stage}/{name}" if stage else name
            self._events.add_scalar(tag, value, global_step=int(step))

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


def _drop_after(history: pathlib.Path, last_step: int) -> None:
    """Removes the lines of steps after `last_step`, and a last line that a kill cut short."""
    if not history.exists():
        return
    kept = [
        line
        for line in history.read_text(encoding="utf-8").splitlines(keepends=True)
        if line.endswith("\n") and json.loads(line)["step"] <= last_step
    ]
    # Replaced in one move: a kill while rewriting must not lose the history.
    rewritten = history.with_suffix(".tmp")
    rewritten.write_text("".join(kept), encoding="utf-8")
    rewritten.replace(history)
