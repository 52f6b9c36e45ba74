"""The reports of a running stage: progress bar, lines, scalars, examples, profile."""

import contextlib
import dataclasses
import sys
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import jax
from etils import epath
from tqdm import tqdm

from ar_net_jax.experiment import Config
from ar_net_jax.runtime.compilation import describe_programs
from ar_net_jax.runtime.distributed import is_first
from ar_net_jax.training.nan_guard import NaNGuard
from ar_net_jax.training.profiling import StepProfile
from ar_net_jax.training.progress import Throughput, folded, progress_line
from ar_net_jax.training.trouble import LossTrend, first_estimate
from ar_net_jax.training.usage_watch import UsageWatch
from ar_net_jax.training.writers import ExampleLog, ScalarWriter

Batch = dict[str, jax.Array]

# After the first, which also compiles, before it is said how long a stage will take.
_STEPS_TO_ESTIMATE = 10


@dataclasses.dataclass(frozen=True)
class Reporting:
    """What to show and record of a training beyond its history.

    Attributes:
        lines: print a line every `config.log_every` steps.
        profile: first and last step of each stage to profile, or None.
        examples: record which examples each step was given.
        title: of the run, shown before the stage's name on the bar.
        row: the terminal row of the bar, where several runs show theirs at once; 0 for the first.
    """

    lines: bool = False
    profile: tuple[int, int] | None = None
    examples: bool = False
    title: str = ""
    row: int = 0

    def say(self, line: str) -> None:
        """Prints a line, where lines are wanted and this is the first process."""
        if self.lines and is_first():
            print(line, flush=True)


class StageLog:
    """The reports of one stage; a context manager. Only the first process shows and writes them."""

    def __init__(
        self,
        config: Config,
        stage: str,
        directory: epath.Path,
        reporting: Reporting,
        *,
        progress: bool,
        done: int,
        last: int,
        later: Sequence[str] = (),
    ) -> None:
        """Opens the history.

        Args:
            config: of the run.
            stage: its name.
            directory: of the stage's history.
            reporting: what to show and record besides.
            progress: whether to show a bar.
            done: steps taken before; what was written for later ones is dropped.
            last: the last step of the stage.
            later: the stages that come after it.
        """
        self._stage, self._last, self._later = stage, last, later
        self._trend = LossTrend()
        self._lines = reporting.lines and is_first()
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
                # None shows it in a terminal only: in a log file, the lines are enough.
                disable=(None if reporting.lines else False) if progress and is_first() else True,
                dynamic_ncols=True,
            )
        )
        self._first = done + 1
        self._usage = [f"usage/{name}" for name in config.build_method().choices.names]
        self._throughput = Throughput(config.data.batch_size * config.data.num_frames, self._last)
        self._usage_watch, self._compiling_since = UsageWatch(), 0.0
        if 0 < done < last:
            self._say(f"goes on: {stage}, step {done + 1} of {last}")

    def next_batch(self, step: int, batches: Iterator[Batch], guard: NaNGuard) -> Batch:
        """The batch of a step that is about to be taken."""
        self._profile.before(step)
        batch = self._throughput.next_batch(batches, guard)
        if step == self._first:
            self.compiling("the training step")
            self._compiling_since = time.monotonic()
        return batch

    def step_done(self, step: int, batch: Batch, loss: jax.Array) -> None:
        """To be called once a step is queued on the devices."""
        if self._examples is not None:
            self._examples.write(step, batch)
        self._profile.after(step, loss)
        self._bar.update()
        self._trend.add(loss)
        if step == self._first:
            # The first step also compiles; rates are measured from here on.
            loss.block_until_ready()
            self._throughput.resume(step)
            took = time.monotonic() - self._compiling_since
            self._say(f"{self._stage}: first step after {took:.0f} s; {describe_programs()}")
        if step == self._first + _STEPS_TO_ESTIMATE:
            loss.block_until_ready()
            left = self._throughput.seconds_left(step)
            self._say(first_estimate(self._stage, left, self._later))

    def report(self, step: int, metrics: Mapping[str, jax.Array], learning_rate: float) -> None:
        """Shows and writes a step's metrics; waits until they are computed."""
        fetched = {name: float(value) for name, value in jax.device_get(metrics).items()}
        # A step returns them sorted by name; actions have an order of their own.
        values = {name: fetched[name] for name in self._usage if name in fetched} | fetched
        values["learning_rate"] = learning_rate
        rates = self._throughput.rates(step)
        self._writer.write(step, values, stage=self._stage)
        self._writer.write_events(step, rates, stage=f"{self._stage}/speed")
        self._bar.set_postfix_str(f"loss {values['loss']:.3f}", refresh=False)
        self._say(progress_line(self._stage, step, self._last, values, rates))
        if told := self._trend.look(last=step == self._last):
            self._say(f"{self._stage}: {told}")
        usage = {name: values[name] for name in self._usage if name in values}
        self._look_at({name.removeprefix("usage/"): share for name, share in usage.items()}, step)

    def write_scores(
        self, step: int, scores: Mapping[str, float], usage: Mapping[str, float] | None = None
    ) -> None:
        """Shows and writes validation mAP in percent by part.

        Args:
            step: of the stage.
            scores: by part.
            usage: share of the validation videos' frames by choice; None where none is made.
        """
        values = {f"validation_mAP/{part}": score for part, score in scores.items()}
        self._writer.write(step, values, stage=self._stage)
        shown = ", ".join(f"{part} {score:.2f}%" for part, score in scores.items())
        self._bar.set_postfix_str(f"mAP {shown}", refresh=False)
        line = f"{self._stage} {step}/{self._last} | validation mAP {shown}"
        if usage:
            line += " | usage " + ", ".join(f"{name} {share:.0%}" for name, share in usage.items())
        self._say(line)
        self._look_at(usage or {}, step)

    def compiling(self, what: str) -> None:
        """Says what is being compiled, which may take half a minute."""
        self._bar.set_postfix_str(f"compiling {what}")
        self._say(f"{self._stage}: compiling {what}")

    def resume(self, step: int) -> None:
        """To be called after an evaluation, so that its time does not count as that of steps."""
        self._throughput.resume(step)

    def flush(self) -> None:
        """Makes what was written so far survive a kill."""
        self._writer.flush()
        if self._examples is not None:
            self._examples.flush()

    def _look_at(self, usage: Mapping[str, float], step: int) -> None:
        if told := self._usage_watch.look(usage):
            self._say(f"{self._stage}, step {step}: {told}")

    def _say(self, line: str) -> None:
        if self._lines:
            self._bar.write(folded(line), file=sys.stdout)
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
