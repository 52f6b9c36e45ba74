"""Videos of a split to show decisions on."""

import numpy as np

from ar_net_jax.data.pipeline import eval_batches
from ar_net_jax.data.source import VideoSource
from ar_net_jax.evaluation.evaluate import Evaluation
from ar_net_jax.experiment import Config
from ar_net_jax.reporting.decisions import DecidedVideo


def pick_videos(
    config: Config, evaluation: Evaluation, split: VideoSource, count: int = 4
) -> list[DecidedVideo]:
    """Videos for the picture of decisions: spread evenly over what they cost."""
    method, predictions = config.build_method(), evaluation.predictions
    actions = predictions.actions
    assert actions is not None, "the evaluation of a model records them"
    order = np.argsort(evaluation.gflops, kind="stable")
    picked = order[np.linspace(0, len(order) - 1, count + 2).round().astype(int)[1:-1]]
    batches = eval_batches(
        split,
        num_frames=config.data.num_frames,
        image_size=method.image_size,
        batch_size=config.data.eval_batch_size,
    )
    frames: dict[int, np.ndarray] = {}
    for batch in batches:
        frames |= {
            int(i): clip
            for i, clip in zip(batch["example_id"], batch["frames"], strict=True)
            if i in picked
        }
    return [
        DecidedVideo(
            frames=frames[int(i)],
            sides=[method.side_of(int(action)) for action in actions[i]],
            captions=[method.choices.names[action] for action in actions[i]],
            full_side=method.image_size,
            labels=[split.class_names[k] for k in predictions.labels[i] if k >= 0],
            prediction=split.class_names[int(np.argmax(predictions.scores[i]))],
            gflops=float(evaluation.gflops[i]),
            gflops_convention=config.model.gflops_convention,
        )
        for i in picked
    ]
