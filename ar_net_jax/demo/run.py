"""The demo: draws a data set, trains AR-Net and its baselines on it, compares them."""

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ar_net_jax.checkpoints import save_model
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import open_split, prepare_data
from ar_net_jax.demo.behaviour import choices_by_kind, pick_videos
from ar_net_jax.demo.controls import single_resolution_model
from ar_net_jax.demo.parallel import Training, run_trainings
from ar_net_jax.evaluation.evaluate import Evaluation, evaluate_model, measure_speed
from ar_net_jax.evaluation.metrics import chance_level
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import load_config_and_variables
from ar_net_jax.reporting.decisions import plot_decisions
from ar_net_jax.reporting.tables import print_table, write_report
from ar_net_jax.runtime.compilation import keep_compiled_programs
from ar_net_jax.runtime.versions import package_versions

# Name of the run's folder -> (variant of the demo config, name in the table). The baselines start
# from the warm-up of the first.
RUNS = {
    "ar_net": ("", "AR-Net"),
    "controls": ("controls", "Uniform"),
    "lstm": ("lstm", "LSTM"),
    "random_policy": ("random_policy", "Random policy"),
    "multi_scale": ("multi_scale", "Multi-Scale"),
}
_WARMUP = "warmup"
# What `--quick` draws instead of the whole data set.
QUICK_DATA = EmbeddedSpec(train=40, validation=32, test=32)


def run_demo(
    workdir: Path,
    *,
    seed: int = 0,
    quick: bool = False,
    overrides: Sequence[str] = (),
    progress: bool = True,
) -> None:
    """Runs the demo, or goes on where an earlier call stopped; leaves the report in `workdir`.

    Args:
        workdir: gets the data set, the runs, the models, and what `write_report` writes.
        seed: of initialisation and order; the data set has its own.
        quick: few videos and one epoch a stage: the same path in two minutes.
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
    config = load_config(_spec("", quick), seeded)
    spec = QUICK_DATA if quick else None
    data_dir = prepare_data(config.data, workdir, spec=spec, progress=progress)
    durations["data"] = time.monotonic() - started
    test = open_split(config.data, data_dir, "test", config.model.num_classes)
    trainings = _trainings(workdir, data_dir, seeded, quick=quick, progress=progress)
    # All of them start from AR-Net's warm-up.
    warm_up = dataclasses.replace(trainings["ar_net"], until=_WARMUP)
    durations |= run_trainings({_WARMUP: warm_up})
    durations |= run_trainings(trainings)
    started = time.monotonic()
    rows, ar_net = _evaluate_all(workdir, test)
    durations["evaluation"] = time.monotonic() - started
    # Less than their sum: trainings run side by side.
    durations["total"] = time.monotonic() - first
    _write(workdir, config, rows, ar_net, test, data_dir, durations)


def _trainings(
    workdir: Path, data_dir: Path, overrides: Sequence[str], *, quick: bool, progress: bool
) -> dict[str, Training]:
    """The trainings by name of the run, AR-Net's first."""
    trainings = {}
    for name, (variant, title) in RUNS.items():
        start = [] if name == "ar_net" else [f"--config.init_from={_warmup_dir(workdir)}"]
        trainings[name] = Training(
            title,
            load_config(_spec(variant, quick), [*overrides, *start]),
            workdir=workdir / name,
            data_dir=data_dir,
            compiled=workdir / "compiled",
            progress=progress,
        )
    return trainings


def _spec(variant: str, quick: bool) -> str:
    names = ["quick"] if quick else []
    return "demo:" + ",".join(([variant] if variant else []) + names)


def _warmup_dir(workdir: Path) -> Path:
    return workdir / "ar_net" / "stages" / _WARMUP


def _evaluate_all(workdir: Path, test: VideoSource) -> tuple[list[dict[str, Any]], Evaluation]:
    """A row per approach on the test split, and the evaluation of AR-Net."""
    config, variables = load_config_and_variables(workdir / "ar_net")
    ar_net = evaluate_model(config, variables, test)
    found = {"AR-Net": ar_net}
    found |= _evaluate_uniform(workdir, config, test, ar_net.row["gflops_per_video"])
    for name in ("lstm", "random_policy", "multi_scale"):
        run_config, variables = load_config_and_variables(workdir / name)
        found[RUNS[name][1]] = evaluate_model(run_config, variables, test)
    speed = measure_speed(found)
    rows = [{"approach": name, **e.row, **speed[name]} for name, e in found.items()]
    return rows, ar_net


def _evaluate_uniform(
    workdir: Path, ar_net: Config, test: VideoSource, gflops: float
) -> dict[str, Evaluation]:
    """Uniform at every resolution, and at the highest with as many frames as AR-Net pays for."""
    config, variables = load_config_and_variables(workdir / "controls")
    found = {}
    image_size, num_frames = ar_net.model.image_size, ar_net.data.num_frames
    for index, size in enumerate(ar_net.model.resolutions):
        uniform, cut = single_resolution_model(config, variables, index)
        full = evaluate_model(uniform, cut, test, image_size=image_size)
        if index > 0:
            found[f"{size}px alone"] = full
            continue
        save_model(workdir / "uniform" / "model", cut, uniform.to_dict())
        found[f"Uniform, {num_frames} frames"] = full
        affordable = num_frames * gflops / full.row["gflops_per_video"]
        for count in sorted({max(1, math.floor(affordable)), math.ceil(affordable)}):
            label = f"Uniform, {count} frame{'' if count == 1 else 's'}"
            found[label] = evaluate_model(
                uniform, cut, test, num_frames=count, image_size=image_size
            )
    return found


def _write(
    workdir: Path,
    config: Config,
    rows: list[dict[str, Any]],
    ar_net: Evaluation,
    test: VideoSource,
    data_dir: Path,
    durations: dict[str, float],
) -> None:
    """Leaves the report in the work directory and prints the table."""
    chance = chance_level(ar_net.predictions.labels, config.model.num_classes)
    behaviour = choices_by_kind(config, ar_net, test, data_dir)
    context = {
        "config": config.to_dict(),
        "seed": config.seed,
        "versions": package_versions(),
        "durations": {name: round(seconds, 1) for name, seconds in durations.items()},
        "chance": chance,
        "behaviour": behaviour,
    }
    write_report(workdir, rows, context)
    plot_decisions(workdir / "decisions.png", pick_videos(config, ar_net, test))
    print_table(rows, chance)
    share = behaviour["high_resolution_share"]
    print(
        f"highest resolution chosen on {share['small']:.0%} of the frames with small evidence, "
        f"{share['empty']:.0%} of those that show nothing"
    )
    print(
        f"{durations['total']:.0f} s in all; results: {workdir}/results.json, table.md, "
        "curve.png, decisions.png"
    )
