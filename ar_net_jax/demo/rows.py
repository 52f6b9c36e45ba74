"""The rows of the demo's table: each model on the test split, at what it computes."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from ar_net_jax.data.source import VideoSource
from ar_net_jax.demo.plan import CONTROLS, EXTRA_FRAMES, SHOWN, UNIFORM, WEIGHTED, Plan
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
    budget, trained_on = uniform.figures.gflops_per_video / 2, uniform.figures.num_frames
    tested_on = trained_on + EXTRA_FRAMES
    more = _of_frames(WEIGHTED.title, tested_on)
    later: dict[str, _Job] = {
        more: partial(_evaluate_within, workdir / WEIGHTED.name, splits, tested_on, budget)
    }
    for count in (*_affordable(uniform.figures, shown.figures), tested_on):
        title = _of_frames(UNIFORM.title, count)
        later[title] = partial(_evaluate, workdir / UNIFORM.name, test, count)
    if plan.everything:
        later |= _alone(workdir / CONTROLS.name, test)
    last = _two_at_a_time(later)
    whole = _of_frames(UNIFORM.title, trained_on)
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


def _evaluate_within(folder: Path, splits: Splits, num_frames: int, budget: float) -> _Evaluated:
    """A method at the least penalty that keeps it within a budget on the validation split.

    Where even the highest does not, it is that.

    Args:
        folder: of its run.
        splits: of the data set.
        num_frames: of a video.
        budget: GFLOPs per video.
    """
    config, variables = load_config_and_variables(folder)

    def evaluate(split: VideoSource, penalty: float) -> Evaluation:
        return evaluate_model(config, variables, split, num_frames=num_frames, cost_penalty=penalty)

    def fits(penalty: float) -> bool:
        return evaluate(splits.validation, penalty).figures.gflops_per_video <= budget

    too_low, enough = 0.0, 0.0 if fits(0.0) else _HIGHEST_PENALTY
    for _ in range(_HALVINGS if enough else 0):
        middle = (too_low + enough) / 2
        too_low, enough = (too_low, middle) if fits(middle) else (middle, enough)
    return _Evaluated(role_of(config.build_method()), evaluate(splits.test, enough))


def _affordable(uniform: Figures, shown: Figures) -> list[int]:
    """Other numbers of frames for Uniform: what the shown row's GFLOPs pay for, to either side."""
    count = uniform.num_frames * shown.gflops_per_video / uniform.gflops_per_video
    return sorted({max(1, math.floor(count)), math.ceil(count)} - {uniform.num_frames})


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
