"""Evaluates a trained model on a split of its data set, which is prepared if need be."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from etils import epath

from ar_net_jax.data.classes import Matching, check_classes, match_classes
from ar_net_jax.data.nearby import embedded_nearby
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import (
    data_home,
    list_classes,
    prepare_data,
    told_source,
    with_absolute_paths,
)
from ar_net_jax.evaluation.comparison import Row, role_of
from ar_net_jax.evaluation.evaluate import Evaluation, evaluate_model
from ar_net_jax.evaluation.settings import file_stem
from ar_net_jax.experiment import Config, apply_overrides
from ar_net_jax.inference.model import check_variables, find_model, load_config_and_variables
from ar_net_jax.inference.plans import AUTO, describe_plan, find_plan
from ar_net_jax.inference.step import Routing
from ar_net_jax.methods import Method
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.compilation import keep_compiled_programs, tell_compiling
from ar_net_jax.runtime.distributed import is_first
from ar_net_jax.runtime.processes import first_process_first
from ar_net_jax.runtime.versions import package_versions
from ar_net_jax.weights.hub import is_on_hub


@dataclass(frozen=True)
class WorkdirEvaluation:
    """What was found of the model of a work directory.

    Attributes:
        rows: one for each cost penalty.
        split: the rows are of.
        config: of the model, with what was changed for this evaluation.
        path: the file beside the model's folder in which figures of these settings are kept; of a
            model on the hub, in the present folder.
        classes: how the data's classes were found among the model's.
        evaluation: of the first cost penalty, by video.
        videos: the split, its labels the model's outputs.
        plan: how the routed form ran, see `describe_plan`; None in the masked form.
    """

    rows: list[Row]
    split: str
    config: Config
    path: epath.Path
    classes: Matching
    evaluation: Evaluation
    videos: VideoSource
    plan: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it: `results`, for which see `Row.to_json`, and what they are of."""
        return {
            "results": [row.to_json() for row in self.rows],
            "split": self.split,
            "classes": self.classes,
            "plan": self.plan,
            "versions": package_versions(),
            "config": self.config.to_dict(),
        }


def evaluate_workdir(
    workdir: epath.PathLike,
    split: str = "test",
    *,
    overrides: Sequence[str] = (),
    classes: Matching = "by_name",
    routing: Routing = "routed",
    cost_penalties: Sequence[float] = (0.0,),
    chunks: Chunks | None = None,
    plan: str = AUTO,
    progress: bool = True,
) -> WorkdirEvaluation:
    """Scores a trained model; all processes of a job must call this.

    Args:
        workdir: of a finished training, a model's folder or file, or `hf://owner/name`.
        split: which.
        overrides: changes of single fields of its config, such as `--config.data.num_frames=8`.
        classes: how the data's classes are found among the model's; see `match_classes`.
        routing: `routed` or `masked`.
        cost_penalties: one evaluation for each, see `Model`.
        chunks: sizes of chunk of the routed form, in place of a plan's.
        plan: as for `find_plan`.
        progress: whether to show a bar while the data set is prepared, and say what is
            compiled.

    Raises:
        UserError: no model there, an override that does not go with its variables, no data,
            data with classes that the model does not know, or no such plan.
    """
    model_dir = find_model(workdir)
    # The hub's cache is no place for results.
    beside = epath.Path.cwd() if is_on_hub(workdir) else model_dir.parent
    keep_compiled_programs(beside / "compiled")
    trained, variables = load_config_and_variables(model_dir)
    config = apply_overrides(trained, overrides)
    check_variables(config, variables, model_dir)
    method = config.build_method()
    measured = find_plan(method, plan) if routing == "routed" and chunks is None else None
    config = replace(config, data=with_absolute_paths(config.data))
    stem = file_stem(
        split,
        replace(trained, data=with_absolute_paths(trained.data)),
        config,
        routing=routing,
        cost_penalties=cost_penalties,
        chunks=chunks,
        classes=classes,
    )
    videos = _prepared_videos(config, split, beside, classes, progress and is_first())
    if progress and is_first():
        tell_compiling(
            f"{method.title} for {config.data.eval_batch_size} videos of {config.data.num_frames} "
            "frames at once"
        )
    judge = functools.partial(
        evaluate_model, config, variables, videos, routing=routing, chunks=chunks, plan=measured
    )
    rows, first = _judge_penalties(method, judge, cost_penalties)
    return WorkdirEvaluation(
        rows,
        split,
        config,
        path=beside / f"{stem}.json",
        classes=classes,
        evaluation=first,
        videos=videos,
        plan=None
        if routing == "masked"
        else describe_plan(method, measured, chunks, alone=jax.device_count() == 1),
    )


def _judge_penalties(
    method: Method[Any, Any], judge: Callable[..., Evaluation], penalties: Sequence[float]
) -> tuple[list[Row], Evaluation]:
    """A row for each penalty, and all that the first one found."""
    rows = []
    first: Evaluation | None = None
    for penalty in penalties:
        found = judge(cost_penalty=penalty)
        # The others' first batches need not stay on the devices.
        first = first or found
        title = method.title + (f", penalty {penalty:g}" if penalty else "")
        rows.append(Row(title, role_of(method), found.figures))
    assert first is not None
    return rows, first


def _prepared_videos(
    config: Config, split: str, beside: epath.Path, classes: Matching, progress: bool
) -> VideoSource:
    """A split of the config's data set, prepared if need be, its classes numbered as the model's.

    Args:
        config: of the model, its data's paths absolute.
        split: which.
        beside: the folder in which the data is prepared where the config names none.
        classes: how they are found; see `match_classes`.
        progress: whether to show a bar.
    """
    home = embedded_nearby(config.data, beside) or data_home(config.data, beside)
    where = told_source(config.data)
    # Before anything is decoded.
    check_classes(list_classes(config.data, home), config, where, classes)
    folder = first_process_first(
        lambda: prepare_data(config.data, home, needed=[split], progress=progress), "prepare data"
    )
    return match_classes(VideoSource(folder, split), config, where, classes)
