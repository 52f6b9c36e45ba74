"""The demo: draws a data set, trains AR-Net and its baselines on it, compares them."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import data_home, prepare_data
from ar_net_jax.demo.decisions import choices_by_kind
from ar_net_jax.demo.page import write_demo_page
from ar_net_jax.demo.plan import SHOWN, WARMUP, Plan
from ar_net_jax.demo.rows import Splits, make_rows
from ar_net_jax.evaluation.comparison import Row
from ar_net_jax.evaluation.evaluate import Evaluation
from ar_net_jax.evaluation.metrics import chance_level
from ar_net_jax.experiment import Config
from ar_net_jax.reporting.decided import pick_videos
from ar_net_jax.reporting.decisions import plot_decisions
from ar_net_jax.reporting.tables import print_table, write_report
from ar_net_jax.runtime.compilation import keep_compiled_programs
from ar_net_jax.runtime.side_by_side import run_side_by_side
from ar_net_jax.runtime.versions import package_versions
from ar_net_jax.training.record import check_config
from ar_net_jax.training.task import Training

_QUICK = (
    "Quick: few videos and one epoch a stage show the path. The figures say nothing of the methods."
)
_WARM = (
    "All rows start from the same networks, warmed up on other videos than these; --from-scratch "
    "does without."
)


def run_demo(
    workdir: Path,
    *,
    seed: int = 0,
    everything: bool = False,
    from_scratch: bool = False,
    quick: bool = False,
    overrides: Sequence[str] = (),
    progress: bool = True,
) -> None:
    """Runs the demo, or goes on where an earlier call stopped; leaves the report in `workdir`.

    Args:
        workdir: gets the data set, the runs, the models, and what `write_report` writes.
        seed: of initialisation and order; the data set has its own.
        everything: also train what `plan.MORE` names.
        from_scratch: warm networks up on the demo's own videos, instead of starting from the
            shipped warm start.
        quick: few videos and one epoch a stage: the same path in a few minutes.
        overrides: changes of single fields of every run's config.
        progress: whether to show progress bars.

    Raises:
        UserError: an override that does not fit, or a training that failed.
        Preempted: told to stop; what was under way is saved.
    """
    keep_compiled_programs(workdir / "compiled")
    seeded = [f"--config.seed={seed}", *overrides]
    durations: dict[str, float] = {}
    started = first = time.monotonic()
    plan = Plan(workdir, everything, from_scratch, quick)
    configs = plan.configs(seeded)
    config = configs[SHOWN.name]
    # Before anything is drawn.
    for name, one in configs.items():
        check_config(one, workdir / name)
    home = data_home(config.data, workdir)
    data = prepare_data(config.data, home, progress=progress)
    durations["data"] = time.monotonic() - started
    splits = Splits(VideoSource(data, "validation"), VideoSource(data, "test"))
    trainings = _trainings(plan, configs, data, progress)
    if from_scratch:
        # All others start from this one's.
        warm_up = dataclasses.replace(trainings[SHOWN.name], until=WARMUP)
        durations |= _train({WARMUP: warm_up})
    durations |= _train(trainings)
    started = time.monotonic()
    rows, shown = make_rows(plan, splits)
    durations["evaluation"] = time.monotonic() - started
    # Less than their sum: trainings run side by side.
    durations["total"] = time.monotonic() - first
    remark = " ".join(([_QUICK] if quick else []) + ([] if from_scratch else [_WARM]))
    _write(workdir, config, rows, shown, splits.test, home, durations, remark)


def _trainings(
    plan: Plan, configs: Mapping[str, Config], data: Path, progress: bool
) -> dict[str, Training]:
    """The trainings of a plan by name."""
    return {
        run.name: Training(
            run.title,
            configs[run.name],
            workdir=plan.workdir / run.name,
            data_dir=data,
            compiled=plan.workdir / "compiled",
            progress=progress,
        )
        for run in plan.runs
    }


def _train(trainings: Mapping[str, Training]) -> dict[str, float]:
    """Seconds by name."""
    print("training " + ", ".join(training.title for training in trainings.values()), flush=True)
    return {name: outcome.seconds for name, outcome in run_side_by_side(trainings).items()}


def _write(
    workdir: Path,
    config: Config,
    rows: list[Row],
    shown: Evaluation,
    test: VideoSource,
    data_dir: Path,
    durations: dict[str, float],
    remark: str,
) -> None:
    """Leaves the report in the work directory and prints the table."""
    chance = chance_level(shown.predictions.labels, config.model.num_classes)
    decisions = choices_by_kind(config.build_method(), shown, test, data_dir)
    context = {
        "config": config.to_dict(),
        "seed": config.seed,
        "versions": package_versions(),
        "durations": {name: round(seconds, 1) for name, seconds in durations.items()},
        "chance": chance,
        "behaviour": dataclasses.asdict(decisions),
    }
    write_report(workdir, rows, context, remark=remark)
    plot_decisions(workdir / "decisions.png", pick_videos(config, shown, test))
    write_demo_page(
        workdir / "report.html",
        rows,
        context,
        config=config,
        shown=shown,
        test=test,
        workdir=workdir / SHOWN.name,
        decisions=decisions,
        remark=remark,
    )
    print_table(rows, chance)
    if remark:
        print(remark)
    share = decisions.high_resolution_share
    print(
        f"highest resolution chosen on {share['small']:.0%} of the frames with small evidence, "
        f"{share['empty']:.0%} of those that show nothing"
    )
    print(
        f"{durations['total']:.0f} s in all; to look at in a browser: {workdir}/report.html; "
        "beside it results.json, table.md, curve.png, decisions.png"
    )
