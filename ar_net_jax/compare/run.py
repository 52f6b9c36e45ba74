"""Runs a study, or goes on where an earlier call stopped."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ar_net_jax.benchmarks.entries import Entry
from ar_net_jax.benchmarks.machine import describe_machine
from ar_net_jax.compare import search
from ar_net_jax.compare.judge import DRAWS, Judgement, Judging, scored_split
from ar_net_jax.compare.plan import Choice, Plan, Run, efficiency_weight, make_plan, make_run
from ar_net_jax.compare.report import write_study
from ar_net_jax.compare.results import (
    Found,
    ResultRow,
    StudyResult,
    hold_against,
    metric_of,
    result_row,
)
from ar_net_jax.compare.study import Setting
from ar_net_jax.compare.timing import QUICK, Protocol, Times, time_models
from ar_net_jax.compare.train import Trainer, training_seconds
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import data_home, prepare_data
from ar_net_jax.errors import UserError
from ar_net_jax.evaluation.comparison import role_of
from ar_net_jax.experiment import apply_overrides
from ar_net_jax.inference.model import load_config_and_variables
from ar_net_jax.runtime.compilation import keep_compiled_programs
from ar_net_jax.runtime.versions import package_versions


@dataclasses.dataclass(frozen=True)
class Matched:
    """A run whose weight was searched for: the weight, and how far off its cost is, as a share."""

    weight: float
    off: float


class _Bench:
    """A study under way."""

    def __init__(self, choice: Choice, plan: Plan, data_dir: Path, progress: bool) -> None:
        self.choice, self.plan, self.data_dir = choice, plan, data_dir
        self.split = scored_split(data_dir)
        self.trainer = Trainer(data_dir, choice.compiled, progress, self._judging)
        self.failures = self.trainer.failures
        self.judgements: dict[str, Judgement] = {}
        self.matched: dict[str, Matched] = {}

    def train_and_judge(self, runs: Sequence[Run]) -> None:
        """Trains runs, and takes in what those that came to their end were judged."""
        self.trainer.train(runs)
        for run in runs:
            found = self._judging(run).done()
            if run.name not in self.failures and found is not None:
                self.judgements[run.name] = found

    def match_costs(self) -> list[Run]:
        """Searches for the weights of rows with a `match`; returns all runs, those at their best.

        All such rows take their next weights together, so that they train side by side.
        """
        tried: dict[str, list[tuple[search.Trial, Run]]] = {}
        wanted = [run for run in self.plan.runs if run.row.match]
        while True:
            due = []
            for run in wanted:
                target = self._target(run)
                trials = tried.setdefault(run.name, [])
                following = self._next(run, trials, target)
                if following is not None:
                    due.append((run, following))
            if not due:
                break
            self.train_and_judge([following for _, following in due])
            for run, following in due:
                if following.name in self.failures:
                    self.failures[run.name] = self.failures[following.name]
                    continue
                cost = self.judgements[following.name].validation.gflops_per_video
                weight = following.weight or efficiency_weight(following.config)
                tried[run.name].append((search.Trial(weight, cost), following))
        return [self._best(run, tried.get(run.name, [])) for run in self.plan.runs]

    def _target(self, run: Run) -> float | None:
        """GFLOPs per video on validation that a run is to come to; None where that failed."""
        for other in self.plan.runs:
            if other.row.name == run.row.match and other.seed == run.seed:
                found = self.judgements.get(other.name)
                if found is not None:
                    return found.validation.gflops_per_video
        return None

    def _next(
        self, run: Run, trials: Sequence[tuple[search.Trial, Run]], target: float | None
    ) -> Run | None:
        if run.name in self.failures:
            return None
        if target is None:
            self.failures[run.name] = f"row '{run.row.match}', whose cost it is to meet, failed"
            return None
        if not trials:
            return run
        weight = search.next_weight([trial for trial, _ in trials], target)
        if weight is None:
            return None
        return make_run(self.choice, run.row, run.seed, weight)

    def _best(self, run: Run, trials: Sequence[tuple[search.Trial, Run]]) -> Run:
        target = self._target(run)
        if not trials or target is None or run.name in self.failures:
            return run
        best = search.closest([trial for trial, _ in trials], target)
        chosen = next(run for trial, run in trials if trial == best)
        self.matched[chosen.name] = Matched(best.weight, search.off_by(best, target))
        return chosen

    def _judging(self, run: Run) -> Judging:
        return Judging(
            run.workdir,
            self.choice.settings(run),
            1 if self.choice.quick else DRAWS,
            self.data_dir,
            self.split,
        )

    def time(self, runs: Sequence[Run], protocol: Protocol) -> dict[str, dict[str, Times]]:
        """Times by run and setting, of the first seed's run of every row."""
        first: dict[str, Run] = {}
        for run in runs:
            if run.name in self.judgements:
                first.setdefault(run.row.name, run)
        entries: dict[tuple[str, str], Entry] = {}
        for run in first.values():
            for setting in self.choice.settings(run):
                entries[run.name, setting.label] = self._entry(run, setting)
        names = {f"{name}|{label}": (name, label) for name, label in entries}
        timed = time_models(
            {key: entries[where] for key, where in names.items()},
            [key for key, (_, label) in names.items() if not label],
            protocol,
        )
        found: dict[str, dict[str, Times]] = {}
        for key, (name, label) in names.items():
            found.setdefault(name, {})[label] = timed[key]
        return found

    def _entry(self, run: Run, setting: Setting) -> Entry:
        trained, variables = load_config_and_variables(run.workdir)
        config = apply_overrides(trained, setting.overrides)
        adaptive = config.build_method().traits.adaptive
        return Entry(
            run.name,
            config,
            variables,
            config.data.num_frames,
            "routed" if adaptive else None,
            split=VideoSource(self.data_dir, self.split) if adaptive else None,
            cost_penalty=setting.cost_penalty,
        )

    def rows(
        self, runs: Sequence[Run], times: Mapping[str, Mapping[str, Times]], data: str
    ) -> tuple[ResultRow, ...]:
        """A result for every row of which all seeds came to their end."""
        by_row: dict[str, list[Run]] = {}
        for run in runs:
            by_row.setdefault(run.row.name, []).append(run)
        rows = []
        for own in by_row.values():
            judged = [run for run in own if run.name in self.judgements]
            if judged:
                rows.append(self._row(judged, times.get(judged[0].name, {}), data))
        titles = [row.method for row in rows]
        rows = [
            dataclasses.replace(row, method=f"{row.method} ({row.name})")
            if titles.count(row.method) > 1
            else row
            for row in rows
        ]
        return hold_against(rows, self.choice.study.reference)

    def _row(self, runs: Sequence[Run], times: Mapping[str, Times], data: str) -> ResultRow:
        row, method = runs[0].row, runs[0].config.build_method()
        matched = [self.matched[run.name] for run in runs if run.name in self.matched]
        seconds = [training_seconds(run) for run in runs]
        known = [value for value in seconds if value is not None]
        found = Found(
            name=row.name,
            method=method.title,
            variant=row.variant,
            role=role_of(method),
            published=row.published,
            judgements={run.seed: self.judgements[run.name] for run in runs},
            times=times,
        )
        return dataclasses.replace(
            result_row(found, data),
            weight=tuple(one.weight for one in matched),
            matched=tuple(one.off for one in matched),
            training_seconds=sum(known) if known else None,
        )


def run_study(choice: Choice, *, progress: bool = True) -> StudyResult:
    """Trains what is missing, judges and times it, and leaves the report in `choice.report_dir`.

    Args:
        choice: what is asked for.
        progress: whether to show progress bars.

    Raises:
        UserError: an unknown row or config, an override that fits none of the rows, no data, or no
            row that came to its end.
        Preempted: told to stop; what was under way is saved.
    """
    keep_compiled_programs(choice.compiled)
    durations: dict[str, float] = {}
    started = last = time.monotonic()

    def lap(name: str) -> None:
        nonlocal last
        now = time.monotonic()
        durations[name], last = round(now - last, 1), now

    # Before anything is prepared.
    plan = make_plan(choice)
    for name, reason in plan.left_out.items():
        print(f"left out: {name}: {reason}", flush=True)
    data = plan.runs[0].config.data
    data_dir = prepare_data(data, data_home(data, choice.home), progress=progress)
    lap("data")
    bench = _Bench(choice, plan, data_dir, progress)
    bench.train_and_judge([run for run in plan.runs if not run.row.match])
    runs = bench.match_costs()
    lap("training and judging")
    if not bench.judgements:
        raise UserError(
            f"study '{choice.study.name}': no row came to its end: "
            + "; ".join(f"{name}: {why}" for name, why in bench.failures.items())
        )
    protocol = dataclasses.replace(QUICK if choice.quick else Protocol(), progress=progress)
    times = bench.time(runs, protocol)
    lap("timing")
    judgement = next(iter(bench.judgements.values()))
    durations["total"] = round(time.monotonic() - started, 1)
    machine = describe_machine()
    result = StudyResult(
        study=choice.study.name,
        summary=choice.study.summary,
        data=data.name,
        split=bench.split,
        metric=metric_of(data.name),
        rows=bench.rows(runs, times, data.name),
        failures={**plan.left_out, **bench.failures},
        chance=judgement.chance[metric_of(data.name)],
        device=f"{machine.device_kind} ({machine.cpu}, {machine.cores} cores)",
        durations=durations,
        versions=package_versions(),
    )
    strips = {run.row.name: run.workdir for run in runs if run.seed == choice.seeds[0]}
    write_study(choice.report_dir, result, strips)
    return result


def last_durations(choice: Choice) -> dict[str, float] | None:
    """Seconds of the last call of a study in its work directory; None where there is none."""
    path = choice.report_dir / "study.json"
    if not path.exists():
        return None
    durations: dict[str, float] = json.loads(path.read_text())["durations"]
    return durations
