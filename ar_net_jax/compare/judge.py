"""What a trained run scores: on validation as trained, on test in every setting and at random.

Validation alone serves for choices. Data sets whose test videos have no labels are tested on their
validation videos, as in the paper. The control has the run's own networks under decisions that
spend the same at random.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ar_net_jax.compare.study import Setting
from ar_net_jax.data.source import VideoSource
from ar_net_jax.errors import UserError
from ar_net_jax.evaluation.evaluate import Evaluation, Figures, evaluate_model
from ar_net_jax.evaluation.metrics import chance_level
from ar_net_jax.experiment import Config, apply_overrides
from ar_net_jax.inference.model import load_config_and_variables
from ar_net_jax.methods import Method
from ar_net_jax.reporting.decided import pick_videos
from ar_net_jax.reporting.decisions import plot_decisions
from ar_net_jax.reporting.page.view import view_model
from ar_net_jax.reporting.tables import plain_json
from ar_net_jax.runtime.storage import write_whole

JUDGEMENT, STRIPS, VIEW = "judgement.json", "decisions.png", "view.json"
# Videos of each run on the study's page.
_SHOWN = 2
DRAWS = 3
"""Of random decisions, for a control."""


@dataclass(frozen=True)
class Score:
    """A run on the test split in a setting."""

    setting: Setting
    figures: Figures


@dataclass(frozen=True)
class Control:
    """The trained setting under random decisions for as much, mean over draws.

    Attributes:
        mAP: mean average precision in percent.
        top1: accuracy in percent.
        gflops_per_video: in the model's convention.
        draws: number of them.
    """

    mAP: float
    top1: float
    gflops_per_video: float
    draws: int


@dataclass(frozen=True)
class Judgement:
    """What was found of a run.

    Attributes:
        validation: of the trained setting.
        scores: on test, the trained setting first.
        control: None where nothing is decided, or at random anyway.
        chance: on test, see `metrics.chance_level`.
    """

    validation: Figures
    scores: tuple[Score, ...]
    control: Control | None
    chance: dict[str, float]

    @property
    def trained(self) -> Figures:
        """On test, in the trained setting."""
        return self.scores[0].figures

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        values: dict[str, Any] = plain_json(dataclasses.asdict(self))
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Judgement":
        """The inverse of `to_json`."""
        control = values["control"]
        scores = (
            Score(
                Setting(**{**score["setting"], "overrides": tuple(score["setting"]["overrides"])}),
                Figures(**score["figures"]),
            )
            for score in values["scores"]
        )
        return cls(
            Figures(**values["validation"]),
            tuple(scores),
            None if control is None else Control(**control),
            values["chance"],
        )


@dataclass(frozen=True)
class Judging:
    """How a run is judged.

    Attributes:
        workdir: of the run.
        settings: the trained one first.
        draws: of random decisions, for the control.
        data_dir: the folder of the data set.
        split: that is tested on, see `scored_split`.
    """

    workdir: Path
    settings: tuple[Setting, ...]
    draws: int
    data_dir: Path
    split: str

    def done(self) -> Judgement | None:
        """The judgement in these settings, where it was made."""
        path = self.workdir / JUDGEMENT
        if not path.exists():
            return None
        found = Judgement.from_json(json.loads(path.read_text()))
        same = tuple(score.setting for score in found.scores) == self.settings
        return found if same else None

    def run(self) -> None:
        """Judges the run, and writes what was found into its folder."""
        if self.done() is not None:
            return
        config, variables = load_config_and_variables(self.workdir)
        test = VideoSource(self.data_dir, self.split)
        # Before the test split is looked at.
        held_out = evaluate_model(config, variables, VideoSource(self.data_dir, "validation"))
        evaluations = [evaluate_in(setting, config, variables, test) for setting in self.settings]
        trained = evaluations[0]
        found = Judgement(
            held_out.figures,
            tuple(Score(s, e.figures) for s, e in zip(self.settings, evaluations, strict=True)),
            _control(config, variables, test, trained, self.draws),
            chance_level(trained.predictions.labels, config.model.num_classes),
        )
        shown = view_model(config, trained, test, _SHOWN)
        write_whole(self.workdir / VIEW, json.dumps(plain_json(shown.to_json())))
        if is_decided(config.build_method()):
            plot_decisions(self.workdir / STRIPS, pick_videos(config, trained, test, 3))
        write_whole(self.workdir / JUDGEMENT, json.dumps(found.to_json(), indent=2))


def scored_split(data_dir: Path) -> str:
    """`test`, or `validation` where a data set has no such split."""
    try:
        VideoSource(data_dir, "test")
    except UserError:
        return "validation"
    return "test"


def is_decided(method: Method[Any, Any]) -> bool:
    """Whether a method learns to decide something about frames, or parts of them."""
    traits = method.traits
    return traits.adaptive and not traits.draws and (len(method.choices) > 1 or traits.crops)


def evaluate_in(setting: Setting, config: Config, variables: Any, split: VideoSource) -> Evaluation:
    """A model on a split in a setting."""
    changed = apply_overrides(config, setting.overrides)
    return evaluate_model(changed, variables, split, cost_penalty=setting.cost_penalty)


def _control(
    config: Config, variables: Any, split: VideoSource, trained: Evaluation, draws: int
) -> Control | None:
    method, actions = config.build_method(), trained.predictions.actions
    if actions is None or not is_decided(method):
        return None
    drawn = [_at_random(config, variables, split, actions, i).figures for i in range(draws)]

    def mean(name: str) -> float:
        return float(np.mean([getattr(figures, name) for figures in drawn]))

    return Control(mean("mAP"), mean("top1"), mean("gflops_per_video"), draws)


def _at_random(
    config: Config, variables: Any, split: VideoSource, actions: np.ndarray, draw: int
) -> Evaluation:
    """A model under other decisions for as much, about frames and about parts of them."""
    method, forced = config.build_method(), None
    if len(method.choices) > 1:
        forced = method.control_actions(actions, np.random.default_rng([config.seed, draw]))
    return evaluate_model(
        # Crops are drawn by the seed.
        dataclasses.replace(config, seed=config.seed + draw),
        variables,
        split,
        forced_actions=forced,
        random_crops=method.traits.crops,
    )
