"""Evaluates a trained model on a split of its data set, which is prepared if need be."""

from collections.abc import Sequence
from typing import Any

from etils import epath

from ar_net_jax.data.splits import open_split, prepare_data
from ar_net_jax.evaluation.evaluate import evaluate_model
from ar_net_jax.experiment import apply_overrides
from ar_net_jax.inference.model import check_variables, find_model, load_config_and_variables
from ar_net_jax.inference.step import Routing
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.compilation import keep_compiled_programs
from ar_net_jax.runtime.distributed import is_first
from ar_net_jax.runtime.processes import first_then_others
from ar_net_jax.runtime.versions import package_versions


def evaluate_workdir(
    workdir: epath.PathLike,
    split: str = "test",
    *,
    overrides: Sequence[str] = (),
    routing: Routing = "routed",
    cost_penalties: Sequence[float] = (0.0,),
    chunks: Chunks | None = None,
    progress: bool = True,
) -> tuple[dict[str, Any], epath.Path]:
    """Scores a trained model; all processes of a job must call this.

    Args:
        workdir: of a finished training, or a model's folder.
        split: which.
        overrides: changes of single fields of its config, such as `--config.data.num_frames=8`.
        routing: `routed` or `masked`.
        cost_penalties: one evaluation for each, see `Model`.
        chunks: sizes of chunk of the routed form; measured ones by default.
        progress: whether to show a bar while the data set is prepared.

    Returns:
        What was found, as JSON holds it: `results`, a row of `evaluate_model` for each penalty,
        with its `approach`; `split`, `versions` and `config`. And the file beside the model's
        folder in which such figures are usually kept.

    Raises:
        UserError: no model there, an override that does not go with its variables, or no data.
    """
    model_dir = find_model(workdir)
    keep_compiled_programs(model_dir.parent / "compiled")
    trained, variables = load_config_and_variables(model_dir)
    config = apply_overrides(trained, overrides)
    check_variables(config, variables, model_dir)
    data_dir = first_then_others(
        lambda: prepare_data(config.data, model_dir.parent, progress=progress and is_first()),
        "prepare data",
    )
    videos = open_split(config.data, data_dir, split, config.model.num_classes)
    rows = []
    for penalty in cost_penalties:
        found = evaluate_model(
            config, variables, videos, routing=routing, cost_penalty=penalty, chunks=chunks
        )
        named = config.model.approach + (f", penalty {penalty:g}" if penalty else "")
        rows.append({"approach": named, **found.row})
    figures = {"results": rows, "split": split, "versions": package_versions()}
    default = model_dir.parent / f"evaluation_{split}.json"
    return {**figures, "config": config.to_dict()}, default
