"""A small training as a task, to be run beside others by `runtime.side_by_side`."""

from dataclasses import dataclass
from pathlib import Path

from ar_net_jax.data.source import VideoSource
from ar_net_jax.experiment import Config
from ar_net_jax.runtime.run_lock import locked
from ar_net_jax.training.log import Reporting
from ar_net_jax.training.loop import train


@dataclass(frozen=True)
class Training:
    """A training that waits for a core.

    Attributes:
        title: for the progress bar and for messages.
        config: of the run.
        workdir: of the run.
        data_dir: the folder of its data set, for `VideoSource`.
        compiled: where compiled programs are kept.
        progress: whether to show a bar.
        until: the stage to end with for now, as in `train`.
    """

    title: str
    config: Config
    workdir: Path
    data_dir: Path
    compiled: Path
    progress: bool
    until: str | None = None

    def run(self, row: int = 0) -> None:
        """Trains, or goes on where an earlier call stopped; raises what `train` raises."""
        splits = (VideoSource(self.data_dir, name) for name in ("train", "validation"))
        with locked(self.workdir, tell=False):
            train(
                self.config,
                self.workdir,
                *splits,
                progress=self.progress,
                reporting=Reporting(title=self.title, row=row),
                until=self.until,
            )
