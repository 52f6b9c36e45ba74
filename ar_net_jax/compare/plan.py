"""What a study trains: one run for each row and seed, and the first stages that runs share.

A run's folder is named by what the run is determined by. So studies share runs that are alike, and
a run of another config is another folder beside it.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ar_net_jax.compare.study import Row, Setting, Study, settings_of
from ar_net_jax.config.files import config_path, load_module
from ar_net_jax.data.registry import EMBEDDED
from ar_net_jax.data.splits import data_home, list_classes, with_absolute_paths
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.training.record import check_config, take_classes_for_run

EFFICIENCY = "losses.efficiency.weight"
"""Of a stage: what `Row.match` changes."""

# Of config.data: where the same videos are, and how they are read.
_NOT_THE_RUN = ("source_dir", "data_dir", "num_threads", "num_workers", "eval_batch_size")


@dataclass(frozen=True)
class Run:
    """A training of a study.

    Attributes:
        row: that it is of.
        seed: of initialisation and order.
        config: with the classes of the data, and where it starts from.
        workdir: its folder.
        weight: of the efficiency loss, where that is searched for; None where the config's stands.
        start: the run from whose first stage it goes on; None where it begins by itself.
    """

    row: Row
    seed: int
    config: Config
    workdir: Path
    weight: float | None = None
    start: "Run | None" = None

    @property
    def name(self) -> str:
        """That tells the runs of a study apart."""
        tried = "" if self.weight is None else f", efficiency {self.weight:.4g}"
        return f"{self.row.name}, seed {self.seed}{tried}"


@dataclass(frozen=True)
class Choice:
    """What of a study is asked for, and how.

    Attributes:
        study: which.
        workdir: gets the data set, the runs and the study's report; for a quick one below `quick`.
        data: name of a data set, whose config is taken, or of a config.
        rows: names of the rows; empty for all.
        seeds: of each row's runs.
        overrides: of every run's config.
        quick: few videos and one epoch a stage: the path, not the result.
    """

    study: Study
    workdir: Path
    data: str = EMBEDDED
    rows: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    overrides: tuple[str, ...] = ()
    quick: bool = False

    @property
    def home(self) -> Path:
        """The folder of data set, runs and reports: quick runs are on other videos."""
        return self.workdir / "quick" if self.quick else self.workdir

    @property
    def report_dir(self) -> Path:
        """The folder of the study's report."""
        return self.home / self.study.name

    @property
    def compiled(self) -> Path:
        """Where compiled programs are kept."""
        return self.home / "compiled"

    @property
    def config_name(self) -> str:
        """Of the config whose variants the rows are."""
        return "demo" if self.data == EMBEDDED else self.data

    def settings(self, run: "Run") -> tuple[Setting, ...]:
        """The settings that a run is evaluated in, the trained one first; if quick, few of them."""
        found = settings_of(run.row.varied, run.config)
        if not self.quick:
            return found
        # A program for each is to be compiled.
        return (found[0], found[-1]) if run.row.name == self.study.reference else found[:1]

    def picked(self) -> list[Row]:
        """The rows asked for, with the reference, in the study's order.

        Raises:
            UserError: a name that the study has not.
        """
        known = [row.name for row in self.study.rows]
        for name in self.rows:
            if name not in known:
                raise UserError(
                    f"--rows={name}: study '{self.study.name}' has no such row; it has "
                    f"{', '.join(known)}"
                )
        wanted = {*self.rows, self.study.reference} if self.rows else set(known)
        # A cost to be matched has to be known.
        wanted |= {row.match for row in self.study.rows if row.name in wanted and row.match}
        return [row for row in self.study.rows if row.name in wanted]


@dataclass
class Plan:
    """The trainings of a study.

    Attributes:
        runs: by row and seed, those whose weight is searched for with the config's as a beginning.
        left_out: why, by name of a row that cannot be trained.
    """

    runs: list[Run] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def make_plan(choice: Choice) -> Plan:
    """Plans the trainings; nothing is written.

    Rows that the data's config does not offer, or whose config cannot be, are left out.

    Raises:
        UserError: an unknown row or config, or none of the rows can be trained.
    """
    plan, offered = Plan(), offered_variants(choice.config_name)
    errors = []
    for row in choice.picked():
        unknown = [name for name in _variants(choice, row) if offered and name not in offered]
        if unknown:
            plan.left_out[row.name] = f"config '{choice.config_name}' has no variant {unknown[0]!r}"
            continue
        try:
            runs = [make_run(choice, row, seed) for seed in choice.seeds]
            if row.match:
                efficiency_weight(runs[0].config)
            plan.runs += runs
        except UserError as error:
            errors.append(error)
            plan.left_out[row.name] = str(error)
    if not plan.runs:
        raise (
            errors[0]
            if errors
            else UserError(f"study '{choice.study.name}': {'; '.join(plan.left_out.values())}")
        )
    return plan


def offered_variants(config_name: str) -> frozenset[str]:
    """Names of a config's variants; empty where its file does not tell."""
    module = load_module(config_path(config_name), "--data")
    return frozenset(getattr(module, "VARIANTS", ()))


def make_run(choice: Choice, row: Row, seed: int, weight: float | None = None) -> Run:
    """The run of a row and seed.

    Args:
        choice: of the study.
        row: which.
        seed: which.
        weight: of the efficiency loss in every stage that has one; None leaves it as it is.

    Raises:
        UserError: a config that cannot be, or a folder that holds another run.
    """
    config = _with_classes(choice, _load(choice, row, seed, _weights(choice, row, weight)))
    parent = None
    if row.start:
        parent = make_run(choice, choice.study.row(row.start), seed)
        stage = parent.config.stage_order[0]
        order = tuple(name for name in config.stage_order if name != stage)
        folder = parent.workdir / "stages" / stage
        config = replace(config, init_from=str(folder.absolute()), stage_order=order)
    workdir = choice.home / "runs" / _folder(row, seed, config, parent)
    check_config(config, workdir)
    return Run(row, seed, config, workdir, weight, parent)


def efficiency_weight(config: Config) -> float:
    """The weight of the efficiency loss; raises UserError where no stage has one."""
    for stage in config.stages.values():
        if "efficiency" in stage.losses:
            return stage.losses["efficiency"].weight
    raise UserError(
        f"method '{config.method}' is trained by no efficiency loss whose weight could change its "
        "cost"
    )


def _variants(choice: Choice, row: Row) -> list[str]:
    head = "" if row.own_head else choice.study.head
    embedded = choice.study.embedded if choice.data == EMBEDDED else ""
    quick = "quick" if choice.quick else ""
    return [name for name in (*row.variant.split(","), head, embedded, quick) if name]


def _load(choice: Choice, row: Row, seed: int, more: Sequence[str]) -> Config:
    variants = ",".join(_variants(choice, row))
    spec = choice.config_name + (f":{variants}" if variants else "")
    seeded = f"--config.seed={seed}"
    return load_config(spec, [*row.overrides, seeded, *choice.overrides, *more])


def _weights(choice: Choice, row: Row, weight: float | None) -> list[str]:
    if weight is None:
        return []
    stages = _load(choice, row, 0, ()).stages.items()
    return [
        f"--config.stages.{name}.{EFFICIENCY}={weight!r}"
        for name, stage in stages
        if "efficiency" in stage.losses
    ]


def _with_classes(choice: Choice, config: Config) -> Config:
    config = replace(config, data=with_absolute_paths(config.data))
    names = list_classes(config.data, data_home(config.data, choice.home))
    return take_classes_for_run(config, choice.home, names, f"data set '{config.data.name}'")


def _folder(row: Row, seed: int, config: Config, parent: Run | None) -> str:
    """Readable, and another for every run that ends otherwise."""
    values: dict[str, Any] = config.to_dict()
    values["data"] = {k: v for k, v in values["data"].items() if k not in _NOT_THE_RUN}
    values["init_from"] = parent.workdir.name if parent else values["init_from"]
    text = json.dumps(values, sort_keys=True)
    readable = re.sub(r"\W+", "_", row.variant) or config.method
    return f"{readable}-seed{seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
