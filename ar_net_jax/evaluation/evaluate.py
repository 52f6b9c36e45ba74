"""One row of a comparison: what an approach scores on a split, and what it computes for that."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ar_net_jax.config.config import Config
from ar_net_jax.costs.executed import executed_gflops
from ar_net_jax.costs.model_costs import model_cost_table
from ar_net_jax.data.pipeline import Batch
from ar_net_jax.data.source import VideoSource
from ar_net_jax.evaluation.metrics import Predictions, action_usage
from ar_net_jax.evaluation.split import predict_split, split_batches
from ar_net_jax.inference.step import Routing, make_predict_step
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.mesh import make_mesh, place, put_batch
from ar_net_jax.runtime.timing import time_interleaved


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Predictions of a model on a split, with the figures drawn from them.

    Attributes:
        predictions: by video.
        row: `mAP`, `top1` and the other accuracies in percent, `gflops_per_frame`,
            `gflops_per_video`, `gflops_convention`, `usage` (share of frames by action) and
            `executed_gflops_per_video`, what was really computed, in the same convention.
        frame_index: int [N, T], which stored frames were looked at.
        again: computes the split's first batch once more, whatever it is called with; for timing.
        batch_size: videos in that batch.
    """

    predictions: Predictions
    row: dict[str, Any]
    frame_index: np.ndarray
    again: Callable[[int], Any]
    batch_size: int


def evaluate_model(
    config: Config,
    variables: Any,
    split: VideoSource,
    *,
    num_frames: int | None = None,
    image_size: int | None = None,
    routing: Routing = "routed",
    cost_penalty: float = 0.0,
    chunks: Chunks | None = None,
) -> Evaluation:
    """Runs a model over a split; every video counts exactly once.

    Args:
        config: the model's config.
        variables: its variables.
        split: the videos.
        num_frames: frames per video; the config's by default.
        image_size: side of the frames handed to the model, which shrinks them itself; the
            model's highest resolution by default.
        routing: `routed` or `masked`, as for a `Model`, like the following.
        cost_penalty: of the costly actions' logits.
        chunks: sizes of chunk of the routed form.
    """
    num_frames = num_frames or config.data.num_frames
    mesh = make_mesh()
    batches = split_batches(
        split,
        config.data,
        mesh,
        num_frames=num_frames,
        image_size=image_size or config.model.image_size,
    )
    predict = make_predict_step(
        config.model,
        config.seed,
        routing=routing,
        cost_penalty=cost_penalty,
        chunks=chunks,
        mesh=mesh,
    )
    variables = place(variables, mesh)
    first: list[Batch] = []
    watched = _keep_first(batches, first)
    found = predict_split(predict, variables, watched, len(split), mesh)
    resident = put_batch(first[0], mesh)
    executed = executed_gflops(config.model, found.computed, len(split) * num_frames)
    row = {
        **found.predictions.metrics(),
        **_cost_figures(config, found.predictions.actions, num_frames),
        "executed_gflops_per_video": executed / len(split),
        "routing": routing,
        "cost_penalty": cost_penalty,
        "num_frames": num_frames,
        "num_videos": len(split),
    }
    return Evaluation(
        found.predictions,
        row,
        found.frame_index,
        again=lambda _: predict(variables, resident)["logits"],
        batch_size=config.data.eval_batch_size,
    )


def _keep_first(batches: Iterable[Batch], kept: list[Batch]) -> Iterator[Batch]:
    """Hands batches on, and puts the first of them into `kept`."""
    for batch in batches:
        if not kept:
            kept.append(batch)
        yield batch


def measure_speed(
    evaluations: Mapping[str, Evaluation], rounds: int = 9
) -> dict[str, dict[str, Any]]:
    """Speed of the models alone, on a batch that lies on the devices already.

    Args:
        evaluations: of the models to be compared, by any name.
        rounds: calls of each; they take turns.

    Returns:
        By name `videos_per_second`, from the median, and `speed_batch_size`.
    """
    seconds = time_interleaved({name: e.again for name, e in evaluations.items()}, rounds)
    return {
        name: {
            "videos_per_second": evaluation.batch_size / float(np.median(seconds[name])),
            "speed_batch_size": evaluation.batch_size,
        }
        for name, evaluation in evaluations.items()
    }


def _cost_figures(config: Config, actions: np.ndarray, num_frames: int) -> dict[str, Any]:
    table = model_cost_table(config.model)
    usage = action_usage(actions, len(table.actions))
    names = config.model.space.names
    return {
        "gflops_per_frame": float(table.per_frame(usage)),
        "gflops_per_video": float(table.per_video(usage, num_frames)),
        "gflops_convention": table.convention,
        "usage": dict(zip(names, usage.tolist(), strict=True)) if len(usage) > 1 else None,
    }


def gflops_by_video(config: Config, predictions: Predictions) -> np.ndarray:
    """GFLOPs of each video, float64 [N], in the model's convention."""
    table = model_cost_table(config.model)
    one_hot = np.eye(len(table.actions))[predictions.actions]
    return table.per_video(one_hot.mean(axis=1), predictions.actions.shape[1])
