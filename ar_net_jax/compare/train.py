"""Trains and judges what a study is missing: shared first stages once, then runs side by side."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ar_net_jax.checkpoints import holds_model
from ar_net_jax.compare.judge import Judging
from ar_net_jax.compare.plan import Run
from ar_net_jax.runtime.side_by_side import Outcome, Task, run_side_by_side
from ar_net_jax.runtime.storage import write_whole
from ar_net_jax.training.task import Training

_SECONDS = "seconds.json"


@dataclass(frozen=True)
class TrainAndJudge:
    """A run as one task: the process that trained it judges it too."""

    training: Training
    judging: Judging

    @property
    def title(self) -> str:
        """Of the run."""
        return self.training.title

    @property
    def compiled(self) -> Path:
        """Where compiled programs are kept."""
        return self.training.compiled

    def run(self, row: int = 0) -> None:
        """Does what is missing of both."""
        workdir = self.training.workdir
        if not holds_model(workdir / "model"):
            started = time.monotonic()
            self.training.run(row)
            seconds = round(time.monotonic() - started, 1)
            write_whole(workdir / _SECONDS, json.dumps({"training": seconds}))
        self.judging.run()


@dataclass
class Trainer:
    """Trains and judges runs, and keeps in mind those that failed.

    Attributes:
        data_dir: the folder of the data set, for `VideoSource`.
        compiled: where compiled programs are kept.
        progress: whether to show bars.
        judging: how a run is judged.
        failures: why, by name of a run that failed.
    """

    data_dir: Path
    compiled: Path
    progress: bool
    judging: Callable[[Run], Judging]
    failures: dict[str, str] = field(default_factory=dict)

    def train(self, runs: Sequence[Run]) -> None:
        """Trains and judges what is not yet; a run that fails leaves the others alone.

        Args:
            runs: to be judged, and before that trained to their end, and before that the first
                stages that they start from.

        Raises:
            Preempted: told to stop; what was under way is saved.
        """
        missing = [run for run in runs if self.judging(run).done() is None]
        untrained = [run for run in missing if not holds_model(run.workdir / "model")]
        starts = {run.start.workdir: run.start for run in untrained if run.start}
        first = {
            f"{run.name}, first stage": self._training(run, until=run.config.stage_order[0])
            for run in starts.values()
        }
        waiting = [run for run in untrained if run.start or run.workdir in starts]
        # Those that wait for nothing keep the other cores busy meanwhile.
        ready = [run for run in missing if run not in waiting]
        outcomes = self._run({**first, **{run.name: self._task(run) for run in ready}})
        broken = {
            task.workdir: outcomes[name].failure
            for name, task in first.items()
            if outcomes[name].failure
        }
        for run in waiting:
            start = run.start.workdir if run.start else run.workdir
            if start in broken:
                self.failures[run.name] = broken[start]
        left = [run for run in waiting if run.name not in self.failures]
        outcomes |= self._run({run.name: self._task(run) for run in left})
        for run in (*ready, *left):
            if outcomes[run.name].failure:
                self.failures[run.name] = outcomes[run.name].failure

    def _task(self, run: Run) -> TrainAndJudge:
        return TrainAndJudge(self._training(run), self.judging(run))

    def _training(self, run: Run, until: str | None = None) -> Training:
        title = run.name + (f", {until}" if until else "")
        return Training(
            title, run.config, run.workdir, self.data_dir, self.compiled, self.progress, until
        )

    def _run(self, tasks: Mapping[str, Task]) -> dict[str, Outcome]:
        if not tasks:
            return {}
        titles = "; ".join(task.title for task in tasks.values())
        print(f"training and judging {titles}", flush=True)
        return run_side_by_side(tasks, go_on=True)


def training_seconds(run: Run) -> float | None:
    """How long the call took that brought a run to its end; None where it has none."""
    path = run.workdir / _SECONDS
    if not path.exists():
        return None
    seconds: float = json.loads(path.read_text())["training"]
    return seconds
