"""The demo: draws a data set, trains AR-Net and its baselines on it, compares them."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ar_net_jax.checkpoints import save_model
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import data_home, prepare_data
from ar_net_jax.demo.decisions import choices_by_kind
from ar_net_jax.demo.page import write_demo_page
from ar_net_jax.demo.plan import CONTROLS, SHOWN, WARMUP, Plan
from ar_net_jax.evaluation.comparison import Role, Row, role_of
from ar_net_jax.evaluation.evaluate import Evaluation, evaluate_model, measure_speed
from ar_net_jax.evaluation.metrics import chance_level
from ar_net_jax.experiment import Config
from ar_net_jax.inference.model import load_config_and_variables
from ar_net_jax.methods.uniform import cut_out
from ar_net_jax.recipes import uniform_beside
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
    test = VideoSource(data, "test")
    trainings = _trainings(plan, configs, data, progress)
    if from_scratch:
        # All others start from this one's.
        warm_up = dataclasses.replace(trainings[SHOWN.name], until=WARMUP)
        durations |= _train({WARMUP: warm_up})
    durations |= _train(trainings)
    started = time.monotonic()
    rows, shown = _evaluate_all(plan, test)
    durations["evaluation"] = time.monotonic() - started
    # Less than their sum: trainings run side by side.
    durations["total"] = time.monotonic() - first
    remark = " ".join(([_QUICK] if quick else []) + ([] if from_scratch else [_WARM]))
    _write(workdir, config, rows, shown, test, home, durations, remark)


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


@dataclasses.dataclass(frozen=True)
class _Evaluated:
    """A model of the table: what it is, and its evaluation."""

    role: Role
    evaluation: Evaluation


def _evaluate_all(plan: Plan, test: VideoSource) -> tuple[list[Row], Evaluation]:
    """A row per model on the test split, and the evaluation of the method that is shown."""
    found = {SHOWN.title: _evaluate(plan.workdir / SHOWN.name, test)}
    main = found[SHOWN.title].evaluation
    config, _ = load_config_and_variables(plan.workdir / SHOWN.name)
    found |= _evaluate_uniform(plan.workdir, config, test, main.figures.gflops_per_video)
    found |= {run.title: _evaluate(plan.workdir / run.name, test) for run in plan.others}
    speed = measure_speed({title: e.evaluation for title, e in found.items()})
    rows = [Row(title, e.role, e.evaluation.figures, speed[title]) for title, e in found.items()]
    return rows, main


def _evaluate(folder: Path, test: VideoSource) -> _Evaluated:
    config, variables = load_config_and_variables(folder)
    role = role_of(config.build_method())
    return _Evaluated(role, evaluate_model(config, variables, test))


def _evaluate_uniform(
    workdir: Path, shown: Config, test: VideoSource, gflops: float
) -> dict[str, _Evaluated]:
    """Uniform at every resolution, and at the highest with as many frames as `gflops` pay for."""
    config, variables = load_config_and_variables(workdir / CONTROLS.name)
    method = config.build_method()
    image_size, num_frames = method.image_size, shown.data.num_frames
    sides = {n.resolution: name for name, n in method.networks().items() if n.outputs}
    found = {}
    for side in sorted(sides, reverse=True):
        uniform = uniform_beside(config, sides[side])
        cut = cut_out(method, sides[side], variables)
        full = evaluate_model(uniform, cut, test, image_size=image_size)
        if side < image_size:
            found[f"{side}px alone"] = _Evaluated("other", full)
            continue
        save_model(workdir / "uniform" / "model", cut, uniform.to_dict())
        title = uniform.build_method().title
        found[_of_frames(title, num_frames)] = _Evaluated("reference", full)
        affordable = num_frames * gflops / full.figures.gflops_per_video
        for count in sorted({max(1, math.floor(affordable)), math.ceil(affordable)}):
            fewer = evaluate_model(uniform, cut, test, num_frames=count, image_size=image_size)
            found[_of_frames(title, count)] = _Evaluated("reference", fewer)
    return found


def _of_frames(title: str, count: int) -> str:
    return f"{title}, {count} frame{'' if count == 1 else 's'}"


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
