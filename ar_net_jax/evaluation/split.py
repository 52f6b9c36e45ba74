"""One pass over a split: every video exactly once, padding left out, on one host or many."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ar_net_jax.config.data import DataConfig
from ar_net_jax.data.pipeline import Batch, EvalBatches, eval_batches
from ar_net_jax.data.source import VideoSource
from ar_net_jax.evaluation.metrics import PredictionLog, Predictions, softmax_scores
from ar_net_jax.runtime.mesh import (
    check_divisible,
    gather,
    gather_rows,
    local_rows,
    put_batch,
)

# (variables, batch) -> a tree of arrays, such as a `Result`.
PredictStep = Callable[[Any, dict[str, jax.Array]], Any]


def split_batches(
    split: VideoSource, data: DataConfig, mesh: Mesh, *, num_frames: int, image_size: int
) -> EvalBatches:
    """This process's share of the batches of a split.

    Args:
        split: the videos.
        data: how they are read.
        mesh: the devices.
        num_frames: frames per video.
        image_size: side of the frames.

    Raises:
        UserError: the batch size does not divide over the devices.
    """
    check_divisible(data.eval_batch_size, mesh, "data.eval_batch_size")
    return eval_batches(
        split,
        num_frames=num_frames,
        image_size=image_size,
        batch_size=data.eval_batch_size,
        num_threads=data.num_threads,
        num_workers=data.num_workers,
        rows=local_rows(data.eval_batch_size, mesh),
    )


def run_split(
    predict: PredictStep, variables: Any, batches: Iterable[Batch], mesh: Mesh
) -> list[tuple[dict[str, np.ndarray], Any]]:
    """Runs a prediction step over a split.

    The next batch is on its way to the devices before the last one's result is fetched.

    Args:
        predict: from `make_predict_step` or `make_separate_predict_step`.
        variables: of the model.
        batches: this process's share of the split.
        mesh: the devices.

    Returns:
        The batch without its frames and the step's outputs, for every batch, as host arrays; the
        rows of all processes on each.
    """
    pending: list[tuple[dict[str, np.ndarray], Any]] = []
    done = []

    def fetch() -> None:
        batch, outputs = pending.pop(0)
        done.append((gather_rows(batch, mesh), gather(outputs)))

    for batch in batches:
        outputs = predict(variables, put_batch(batch, mesh))
        kept = {name: value for name, value in batch.items() if name != "frames"}
        pending.append((kept, outputs))
        if len(pending) > 1:
            fetch()
    while pending:
        fetch()
    return done


def predict_split(
    predict: PredictStep,
    variables: Any,
    batches: Iterable[Batch],
    num_examples: int,
    mesh: Mesh,
    *,
    to_scores: Callable[[np.ndarray], np.ndarray] = softmax_scores,
) -> tuple[Predictions, dict[str, int]]:
    """Predictions of a method for a whole split.

    Args:
        predict: from `make_predict_step`.
        variables: of the model.
        batches: this process's share of the split.
        num_examples: size of the split.
        mesh: the devices.
        to_scores: from logits [B, C] to scores float64 [B, C].

    Returns:
        The predictions in the order of the example ids, and by network the frames that it
        computed, those of padding rows included.
    """
    log = PredictionLog(num_examples, to_scores)
    executed: Counter[str] = Counter()
    for batch, result in run_split(predict, variables, batches, mesh):
        log.add(
            logits=result.logits,
            actions=result.actions,
            labels=batch["labels"],
            example_id=batch["example_id"],
            mask=batch["mask"],
            frame_index=batch["frame_index"],
            calls=result.calls,
        )
        executed.update({name: int(count.sum()) for name, count in result.executed.items()})
    return log.finish(), dict(executed)
