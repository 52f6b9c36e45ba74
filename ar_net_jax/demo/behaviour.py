"""What the policy does with each kind of frame of the embedded data set, and videos to show it."""

from pathlib import Path
from typing import Any

import numpy as np

from ar_net_jax.data.embedded.builder import frame_kinds
from ar_net_jax.data.pipeline import eval_batches
from ar_net_jax.data.source import VideoSource
from ar_net_jax.evaluation.evaluate import Evaluation, gflops_by_video
from ar_net_jax.experiment import Config


def choices_by_kind(
    config: Config, evaluation: Evaluation, split: VideoSource, data_dir: Path
) -> dict[str, Any]:
    """Shares of the actions on each kind of frame.

    Args:
        config: of the AR-Net.
        evaluation: its evaluation on the split.
        split: a split of the embedded data set.
        data_dir: where that was prepared.

    Returns:
        `usage_by_kind`: action name -> share, by kind of frame; `frames_by_kind`: their number;
        `high_resolution_share`: the share of the highest resolution by kind; `ratio`: that on
        frames with small evidence over that on frames that show nothing, None if it is never
        chosen on those.
    """
    kinds_of = frame_kinds(data_dir / "videos", split.split)
    names = [split[i]["name"] for i in range(len(split))]
    kinds = np.stack(
        [
            np.asarray(kinds_of[name])[index]
            for name, index in zip(names, evaluation.frame_index, strict=True)
        ]
    )
    actions = evaluation.predictions.actions
    space = config.model.space
    usage, frames = {}, {}
    for kind in sorted(set(kinds.ravel().tolist())):
        chosen = actions[kinds == kind]
        shares = np.bincount(chosen, minlength=space.num_actions) / len(chosen)
        usage[kind] = dict(zip(space.names, shares.tolist(), strict=True))
        frames[kind] = len(chosen)
    highest = space.names[0]
    share = {kind: usage[kind][highest] for kind in usage}
    return {
        "ratio": share["small"] / share["empty"] if share["empty"] else None,
        "high_resolution_share": share,
        "usage_by_kind": usage,
        "frames_by_kind": frames,
    }


def pick_videos(
    config: Config, evaluation: Evaluation, split: VideoSource, count: int = 4
) -> list[dict[str, Any]]:
    """Videos for the picture of decisions: spread evenly over what they cost.

    Returns:
        What `plot_decisions` takes, one mapping per video.
    """
    gflops = gflops_by_video(config, evaluation.predictions)
    order = np.argsort(gflops, kind="stable")
    picked = order[np.linspace(0, len(order) - 1, count + 2).round().astype(int)[1:-1]]
    batches = eval_batches(
        split,
        num_frames=config.data.num_frames,
        image_size=config.model.image_size,
        batch_size=config.data.eval_batch_size,
    )
    frames = {}
    for batch in batches:
        frames |= {
            int(i): clip
            for i, clip in zip(batch["example_id"], batch["frames"], strict=True)
            if i in picked
        }
    predictions = evaluation.predictions
    return [
        {
            "frames": frames[int(i)],
            "actions": predictions.actions[i],
            "labels": [split.class_names[k] for k in predictions.labels[i] if k >= 0],
            "prediction": split.class_names[int(np.argmax(predictions.scores[i]))],
            "gflops": float(gflops[i]),
            "gflops_convention": config.model.gflops_convention,
            "resolutions": config.model.resolutions,
            "action_names": config.model.space.names,
        }
        for i in picked
    ]
