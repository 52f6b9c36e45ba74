"""One row of a comparison: what an approach scores on a split, and what it computes for that."""

import dataclasses
from typing import Any

import jax
import numpy as np

from ar_net_jax.config import Config
from ar_net_jax.costs.model_costs import model_cost_table
from ar_net_jax.data.pipeline import eval_batches
from ar_net_jax.data.source import VideoSource
from ar_net_jax.metrics import Predictions, action_usage
from ar_net_jax.models.registry import build_model
from ar_net_jax.training.devices import check_divisible, make_mesh, replicated
from ar_net_jax.training.evaluation import predict_split
from ar_net_jax.training.steps import make_predict_step


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Predictions of a model on a split, with the figures drawn from them.

    Attributes:
        predictions: by video.
        row: `mAP`, `top1` and the other accuracies in percent, `gflops_per_frame`,
            `gflops_per_video`, `gflops_convention` and `usage` (share of frames by action).
        frame_index: int [N, T], which stored frames were looked at.
    """

    predictions: Predictions
    row: dict[str, Any]
    frame_index: np.ndarray


def evaluate_model(
    config: Config,
    variables: Any,
    split: VideoSource,
    *,
    num_frames: int | None = None,
    image_size: int | None = None,
) -> Evaluation:
    """Runs a model over a split; every video counts exactly once.

    Args:
        config: the model's config.
        variables: its variables.
        split: the videos.
        num_frames: frames per video; the config's by default.
        image_size: side of the frames handed to the model, which shrinks them itself; the
            model's highest resolution by default.
    """
    num_frames = num_frames or config.data.num_frames
    mesh = make_mesh()
    check_divisible(config.data.eval_batch_size, mesh, "data.eval_batch_size")
    batches = eval_batches(
        split,
        num_frames=num_frames,
        image_size=image_size or config.model.image_size,
        batch_size=config.data.eval_batch_size,
        num_threads=config.data.num_threads,
    )
    predict = make_predict_step(build_model(config.model), config.seed)
    variables = jax.device_put(variables, replicated(mesh))
    predictions, frame_index = predict_split(predict, variables, batches, len(split), mesh)
    row = {
        **predictions.metrics(),
        **_cost_figures(config, predictions.actions, num_frames),
        "num_frames": num_frames,
        "num_videos": len(split),
    }
    return Evaluation(predictions, row, frame_index)


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
