"""What the demo trains: the rows of its table, and what each starts from."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ar_net_jax.config.data import DataConfig, EmbeddedConfig
from ar_net_jax.data.embedded.plan import SPLITS, EmbeddedSpec
from ar_net_jax.data.splits import data_home, list_classes, with_absolute_paths
from ar_net_jax.demo.shipped import WARM_START
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.training.record import take_classes_for_run


@dataclass(frozen=True)
class Trained:
    """A run of the demo.

    Attributes:
        name: its folder.
        title: in the table and in messages.
        variant: of the demo's config; variants separated by commas.
    """

    name: str
    title: str
    variant: str


SHOWN = Trained("ar_net", "AR-Net", "paper_losses")
"""The row whose decisions are shown; from scratch, all others start from its warm-up."""
WEIGHTED = Trained("ar_net_weighted", "AR-Net, weighted frames", "weighted_frames")
"""The same, and its policy learns how much each frame counts in the video's prediction."""
SEPARATE = Trained("ar_net_separate", "AR-Net, separate losses", "")
"""The same, whose networks go on learning from all frames while the policy learns."""
UNIFORM = Trained("uniform", "Uniform", "uniform")
LSTM = Trained("lstm", "LSTM", "lstm")
CONTROLS = Trained("controls", "single networks", "controls")
"""Each network of the shown row by itself."""
MORE = (
    SEPARATE,
    Trained("random_policy", "Random policy", "random_policy"),
    Trained("multi_scale", "Multi-Scale", "multi_scale"),
)
"""What `--all` trains besides, and `CONTROLS`."""
EXTRA_FRAMES = 2
"""How many frames more `WEIGHTED` is tested on than all train on. Skipping pays for them."""
WARMUP = "warmup"


@dataclass(frozen=True)
class Plan:
    """What one call of the demo trains.

    Attributes:
        workdir: the folders of its runs lie in it.
        everything: with the rows that `MORE` names.
        from_scratch: whether networks are warmed up on the demo's own videos, instead of starting
            from `WARM_START`.
        quick: few videos and one epoch a stage.
    """

    workdir: Path
    everything: bool = False
    from_scratch: bool = False
    quick: bool = False

    @property
    def others(self) -> tuple[Trained, ...]:
        """Rows that are one model each, tested as they were trained, after all others."""
        return (LSTM, *MORE) if self.everything else (LSTM,)

    @property
    def runs(self) -> tuple[Trained, ...]:
        """All that is trained, the longest first, so that cores end together."""
        return (SHOWN, WEIGHTED, *((CONTROLS,) if self.everything else ()), UNIFORM, *self.others)

    @property
    def start(self) -> Path:
        """What runs start from; from scratch, all but the first."""
        if self.from_scratch:
            return self.workdir / SHOWN.name / "stages" / WARMUP
        return WARM_START

    def configs(self, overrides: Sequence[str]) -> dict[str, Config]:
        """The configs of all runs by name, the shown one first, with the data set's classes.

        Args:
            overrides: changes of single fields of every run's config.
        """
        return {run.name: self._config(run, overrides) for run in self.runs}

    def _config(self, run: Trained, overrides: Sequence[str]) -> Config:
        begins = self.from_scratch and run == SHOWN
        start = [] if begins else [f"--config.init_from={self.start}"]
        config = load_config(self._spec(run, begins), [*overrides, *start])
        data = _drawing_all(with_absolute_paths(config.data))
        names = list_classes(data, data_home(data, self.workdir))
        config = dataclasses.replace(config, data=data)
        where = f"data set '{data.name}'"
        return take_classes_for_run(config, self.workdir / run.name, names, where)

    def _spec(self, run: Trained, begins: bool) -> str:
        # A start from the same place for all is no stage of theirs.
        shorter = "" if begins else "warmed_up" if self.from_scratch else "warm_start"
        names = filter(None, (shorter, run.variant, "quick" if self.quick else ""))
        return "demo:" + ",".join(names)


def _drawing_all(data: DataConfig) -> DataConfig:
    """A data config that says how many videos are drawn, the usual numbers too."""
    usual = EmbeddedSpec()
    given = {split: getattr(data.embedded, split) or getattr(usual, split) for split in SPLITS}
    return dataclasses.replace(data, embedded=EmbeddedConfig(**given))
