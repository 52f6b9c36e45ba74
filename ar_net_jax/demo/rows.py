"""The rows of the demo's table: each model on the test split, at what it computes."""

import dataclasses
import math
from pathlib import Path

from ar_net_jax.data.source import VideoSource
from ar_net_jax.demo.plan import CONTROLS, MORE_FRAMES, SHOWN, UNIFORM, WEIGHTED, Plan
from ar_net_jax.evaluation.comparison import Role, Row, role_of
from ar_net_jax.evaluation.evaluate import Evaluation, evaluate_model, measure_speed
from ar_net_jax.inference.model import load_config_and_variables
from ar_net_jax.methods.uniform import cut_out
from ar_net_jax.recipes import uniform_beside

# Of costly actions, tried in this order.
_PENALTIES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


@dataclasses.dataclass(frozen=True)
class Splits:
    """Videos that no training has seen.

    Attributes:
        validation: choices are made on them.
        test: the table shows them.
    """

    validation: VideoSource
    test: VideoSource


@dataclasses.dataclass(frozen=True)
class _Evaluated:
    """A model of the table: what it is, and its evaluation."""

    role: Role
    evaluation: Evaluation


def make_rows(plan: Plan, splits: Splits) -> tuple[list[Row], Evaluation]:
    """A row per model on the test split, and the evaluation of the one that is shown.

    Args:
        plan: all of it is trained.
        splits: of the demo's data set.
    """
    test, workdir = splits.test, plan.workdir
    found = {SHOWN.title: _evaluate(workdir / SHOWN.name, test)}
    main = found[SHOWN.title].evaluation
    uniform = _evaluate_uniform(workdir / UNIFORM.name, test, main.figures.gflops_per_video)
    whole = next(iter(uniform.values())).evaluation.figures.gflops_per_video
    title = _of_frames(WEIGHTED.title, MORE_FRAMES)
    found[title] = _evaluate_within(workdir / WEIGHTED.name, splits, whole / 2)
    found |= uniform
    found |= {run.title: _evaluate(workdir / run.name, test) for run in plan.others}
    if plan.everything:
        found |= _evaluate_alone(workdir / CONTROLS.name, test)
    speed = measure_speed({title: e.evaluation for title, e in found.items()}, rounds=5)
    rows = [Row(title, e.role, e.evaluation.figures, speed[title]) for title, e in found.items()]
    return rows, main


def _evaluate(folder: Path, test: VideoSource) -> _Evaluated:
    config, variables = load_config_and_variables(folder)
    role = role_of(config.build_method())
    return _Evaluated(role, evaluate_model(config, variables, test))


def _evaluate_within(folder: Path, splits: Splits, budget: float) -> _Evaluated:
    """A method with more frames, at the least penalty that keeps it within a budget.

    The penalty is chosen on the validation split.

    Args:
        folder: of its run.
        splits: of the data set.
        budget: GFLOPs per video.
    """
    config, variables = load_config_and_variables(folder)

    def evaluate(split: VideoSource, penalty: float) -> Evaluation:
        return evaluate_model(
            config, variables, split, num_frames=MORE_FRAMES, cost_penalty=penalty
        )

    within = (
        penalty
        for penalty in _PENALTIES
        if evaluate(splits.validation, penalty).figures.gflops_per_video <= budget
    )
    chosen = next(within, _PENALTIES[-1])
    return _Evaluated(role_of(config.build_method()), evaluate(splits.test, chosen))


def _evaluate_uniform(folder: Path, test: VideoSource, gflops: float) -> dict[str, _Evaluated]:
    """Uniform at its own number of frames, with as many as `gflops` pay for, and with more."""
    config, variables = load_config_and_variables(folder)
    title, whole = config.build_method().title, config.data.num_frames

    def evaluate(count: int) -> Evaluation:
        return evaluate_model(config, variables, test, num_frames=count)

    full = evaluate(whole)
    affordable = whole * gflops / full.figures.gflops_per_video
    fewer = sorted({max(1, math.floor(affordable)), math.ceil(affordable)} - {whole})
    found = {whole: full} | {count: evaluate(count) for count in (*fewer, MORE_FRAMES)}
    return {_of_frames(title, count): _Evaluated("reference", e) for count, e in found.items()}


def _evaluate_alone(folder: Path, test: VideoSource) -> dict[str, _Evaluated]:
    """Each lower resolution's network by itself."""
    config, variables = load_config_and_variables(folder)
    method = config.build_method()
    sides = {n.resolution: name for name, n in method.networks().items() if n.outputs}
    found = {}
    for side in sorted(sides, reverse=True)[1:]:
        cut = cut_out(method, sides[side], variables)
        config_alone = uniform_beside(config, sides[side])
        alone = evaluate_model(config_alone, cut, test, image_size=method.image_size)
        found[f"{side}px alone"] = _Evaluated("other", alone)
    return found


def _of_frames(title: str, count: int) -> str:
    return f"{title}, {count} frame{'' if count == 1 else 's'}"
