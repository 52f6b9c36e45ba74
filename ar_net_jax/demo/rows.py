"""The rows of the demo's table: each model on the test split, at what it computes."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from ar_net_jax.data.source import VideoSource
from ar_net_jax.demo.plan import CONTROLS, MORE_FRAMES, SHOWN, UNIFORM, WEIGHTED, Plan
from ar_net_jax.evaluation.comparison import Role, Row, role_of
from ar_net_jax.evaluation.evaluate import Evaluation, Figures, evaluate_model, measure_speed
from ar_net_jax.inference.model import load_config_and_variables
from ar_net_jax.methods.uniform import cut_out
from ar_net_jax.recipes import uniform_beside

_HIGHEST_PENALTY, _HALVINGS = 2.0, 5  # Of costly actions, and how finely it is searched for.
_ROUNDS = 3  # Of timing.


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

    @property
    def figures(self) -> Figures:
        """Those of the evaluation."""
        return self.evaluation.figures


_Job = Callable[[], _Evaluated]


def make_rows(plan: Plan, splits: Splits) -> tuple[list[Row], Evaluation]:
    """A row per model on the test split, and the evaluation of the one that is shown.

    Args:
        plan: all of it is trained.
        splits: of the demo's data set.
    """
    test, workdir = splits.test, plan.workdir
    as_trained = _two_at_a_time(
        {
            run.title: partial(_evaluate, workdir / run.name, test)
            for run in (SHOWN, UNIFORM, *plan.others)
        }
    )
    shown, uniform = as_trained.pop(SHOWN.title), as_trained.pop(UNIFORM.title)
    budget = uniform.figures.gflops_per_video / 2
    more = _of_frames(WEIGHTED.title, MORE_FRAMES)
    later: dict[str, _Job] = {
        more: partial(_evaluate_within, workdir / WEIGHTED.name, splits, budget)
    }
    for count in _counts(uniform.figures, shown.figures.gflops_per_video):
        title = _of_frames(UNIFORM.title, count)
        later[title] = partial(_evaluate, workdir / UNIFORM.name, test, count)
    if plan.everything:
        later |= _alone(workdir / CONTROLS.name, test)
    last = _two_at_a_time(later)
    whole = _of_frames(UNIFORM.title, uniform.figures.num_frames)
    found = {SHOWN.title: shown, more: last.pop(more), whole: uniform} | last | as_trained
    speed = measure_speed({title: e.evaluation for title, e in found.items()}, _ROUNDS)
    rows = [Row(title, e.role, e.figures, speed[title]) for title, e in found.items()]
    return rows, shown.evaluation


def _two_at_a_time(jobs: Mapping[str, _Job]) -> dict[str, _Evaluated]:
    """What the jobs give; one is compiled, on one core, while another computes."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(jobs, pool.map(lambda job: job(), jobs.values()), strict=True))


def _evaluate(folder: Path, test: VideoSource, num_frames: int | None = None) -> _Evaluated:
    config, variables = load_config_and_variables(folder)
    role = role_of(config.build_method())
    return _Evaluated(role, evaluate_model(config, variables, test, num_frames=num_frames))


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

    def fits(penalty: float) -> bool:
        return evaluate(splits.validation, penalty).figures.gflops_per_video <= budget

    too_low, enough = 0.0, 0.0 if fits(0.0) else _HIGHEST_PENALTY
    for _ in range(_HALVINGS if enough else 0):
        middle = (too_low + enough) / 2
        too_low, enough = (too_low, middle) if fits(middle) else (middle, enough)
    return _Evaluated(role_of(config.build_method()), evaluate(splits.test, enough))


def _counts(uniform: Figures, gflops: float) -> list[int]:
    """Other numbers of frames for Uniform: as many as `gflops` pay for, and `MORE_FRAMES`."""
    affordable = uniform.num_frames * gflops / uniform.gflops_per_video
    fewer = {max(1, math.floor(affordable)), math.ceil(affordable)} - {uniform.num_frames}
    return [*sorted(fewer), MORE_FRAMES]


def _alone(folder: Path, test: VideoSource) -> dict[str, _Job]:
    """Evaluations of each lower resolution's network by itself."""
    config, variables = load_config_and_variables(folder)
    method = config.build_method()
    sides = {n.resolution: name for name, n in method.networks().items() if n.outputs}

    def job(name: str) -> _Evaluated:
        alone, cut = uniform_beside(config, name), cut_out(method, name, variables)
        evaluation = evaluate_model(alone, cut, test, image_size=method.image_size)
        return _Evaluated("other", evaluation)

    lower = sorted(sides, reverse=True)[1:]
    return {f"{side}px alone": partial(job, sides[side]) for side in lower}


def _of_frames(title: str, count: int) -> str:
    return f"{title}, {count} frame{'' if count == 1 else 's'}"
