"""What a stage tells of itself while it runs: bar, lines, scalars, examples, profile."""

import contextlib
import dataclasses
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax
from etils import epath
from tqdm import tqdm

from ar_net_jax.experiment import Config
from ar_net_jax.runtime.compilation import describe_programs
from ar_net_jax.runtime.distributed import is_first
from ar_net_jax.training.nan_guard import LossWatch
from ar_net_jax.training.profiling import StepProfile
from ar_net_jax.training.progress import Pace, progress_line
from ar_net_jax.training.writers import ExampleLog, ScalarWriter

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Reporting:
    """What to show and record of a training beyond its history.

    Attributes:
        lines: print a line every `config.log_every` steps.
        profile: first and last step of each stage to profile, or None.
        examples: record which examples each step saw.
        title: of the run, to go before the stage's name on the bar.
        row: of the bar, where several runs show theirs at a time.
    """

    lines: bool = False
    profile: tuple[int, int] | None = None
    examples: bool = False
    title: str = ""
    row: int = 0


class StageLog:
    """The reports of one stage; a context manager. Only the first process shows and writes them."""

    def __init__(
        self,
        config: Config,
        stage: str,
        directory: epath.Path,
        span: tuple[int, int],
        *,
        progress: bool,
        reporting: Reporting,
    ) -> None:
        """Opens the history.

        Args:
            config: the run.
            stage: name of the stage.
            directory: of the stage's history.
            span: steps done before, and steps of the whole stage.
            progress: whether to show a bar.
            reporting: what else.
        """
        done, self._last = span
        self._stage, self._lines = stage, reporting.lines and is_first()
        self._stack = contextlib.ExitStack()
        self._writer = self._stack.enter_context(ScalarWriter(directory, resume_step=done))
        self._examples = None
        if reporting.examples:
            self._examples = self._stack.enter_context(
                contextlib.closing(ExampleLog(directory, done))
            )
        self._profile = self._stack.enter_context(
            contextlib.closing(StepProfile(reporting.profile, directory / "profile"))
        )
        self._bar = self._stack.enter_context(
            tqdm(
                total=self._last,
                initial=done,
                desc=f"{reporting.title} {stage}".lstrip(),
                position=reporting.row or None,
                unit="step",
                # Beside lines, in a log file a bar would only be in the way.
                disable=(None if reporting.lines else False) if progress and is_first() else True,
                dynamic_ncols=True,
            )
        )
        self._first = done + 1
        self._usage = [f"usage/{name}" for name in config.model.space.names]
        self._pace = Pace(config.data.batch_size * config.data.num_frames, self._last)

    def next_batch(self, step: int, batches: Iterator[Batch], watch: LossWatch) -> Batch:
        """The batch for a step that is about to be taken."""
        self._profile.before(step)
        return self._pace.next_of(batches, watch)

    def step_done(self, step: int, batch: Batch, loss: jax.Array) -> None:
        """A step has been sent to the devices."""
        if self._examples is not None:
            self._examples.write(step, batch)
        self._profile.after(step, loss)
        self._bar.update()
        if step == self._first:
            # From here on nothing is compiled any more, so rates mean something.
            jax.block_until_ready(loss)
            self._pace.resume(step)
            self._say(f"{self._stage}: {describe_programs()}")

    def report(self, step: int, metrics: Mapping[str, jax.Array], learning_rate: float) -> None:
        """Shows and writes a step's metrics; waits for them."""
        fetched = {name: float(value) for name, value in jax.device_get(metrics).items()}
        # A step returns them sorted by name; actions have an order of their own.
        values = {name: fetched[name] for name in self._usage if name in fetched} | fetched
        values["learning_rate"] = learning_rate
        pace = self._pace.figures(step)
        self._writer.write(step, values, stage=self._stage)
        self._writer.write_events(step, pace, stage=f"{self._stage}/speed")
        self._bar.set_postfix_str(f"loss {values['loss']:.3f}", refresh=False)
        self._say(progress_line(self._stage, step, self._last, values, pace))

    def write_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Shows and writes validation mAP in percent by part."""
        values = {f"validation_mAP/{part}": score for part, score in scores.items()}
        self._writer.write(step, values, stage=self._stage)
        shown = ", ".join(f"{part} {score:.2f}%" for part, score in scores.items())
        self._say(f"{self._stage} {step}/{self._last} | validation mAP {shown}")

    def resume(self, step: int) -> None:
        """Training goes on after an evaluation, whose time is not that of the steps."""
        self._pace.resume(step)

    def flush(self) -> None:
        """Sees that what was written is where a killed run leaves it."""
        self._writer.flush()
        if self._examples is not None:
            self._examples.flush()

    def _say(self, line: str) -> None:
        if self._lines:
            self._bar.write(line, file=sys.stdout)
            sys.stdout.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> Any:
        return self._stack.__exit__(kind, error, trace)
