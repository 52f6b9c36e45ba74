"""One pass over a split: every video exactly once, padding left out, on one host or many."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from ar_net_jax.config.config import Config, DataConfig, StageConfig
from ar_net_jax.data.pipeline import Batch, EvalBatches, eval_batches
from ar_net_jax.data.source import VideoSource
from ar_net_jax.evaluation.metrics import PredictionLog, Predictions, mean_average_precision
from ar_net_jax.inference.step import make_predict_step
from ar_net_jax.runtime.mesh import (
    check_divisible,
    gather,
    gather_rows,
    local_rows,
    put_batch,
)
from ar_net_jax.training import parts as stages
from ar_net_jax.training import steps

PredictStep = Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class SplitPredictions:
    """What an approach made of a split.

    Attributes:
        predictions: in the order of the example ids.
        frame_index: int32 [N, T], the stored frames that were looked at.
        computed: int [K] or [K + 1], frames computed by each backbone and by the policy's
            extractor, those of padding rows included.
    """

    predictions: Predictions
    frame_index: np.ndarray
    computed: np.ndarray


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
) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
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
    pending: list[tuple[dict[str, np.ndarray], dict[str, jax.Array]]] = []
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
    predict: PredictStep, variables: Any, batches: Iterable[Batch], num_examples: int, mesh: Mesh
) -> SplitPredictions:
    """Predictions of an approach for a whole split.

    Args:
        predict: from `make_predict_step`.
        variables: of the model.
        batches: this process's share of the split.
        num_examples: size of the split.
        mesh: the devices.

    Returns:
        The predictions and what was computed for them.
    """
    log = PredictionLog(num_examples)
    frame_index, computed = {}, []
    for batch, outputs in run_split(predict, variables, batches, mesh):
        frame_index |= dict(zip(batch["example_id"].tolist(), batch["frame_index"], strict=True))
        log.add(
            logits=outputs["logits"],
            actions=outputs["actions"],
            labels=batch["labels"],
            example_id=batch["example_id"],
            mask=batch["mask"],
        )
        computed.append(outputs["computed"].sum(0))
    predictions = log.finish()
    index = np.stack([frame_index[i] for i in predictions.example_id.tolist()])
    return SplitPredictions(predictions, index, np.sum(computed, axis=0))


def separate_scores(
    predict: PredictStep, variables: Any, batches: Iterable[Batch], mesh: Mesh
) -> dict[str, float]:
    """MAP in percent of each backbone by itself, by name.

    Args:
        predict: from `make_separate_predict_step`.
        variables: of the model.
        batches: this process's share of the split.
        mesh: the devices.
    """
    results = run_split(predict, variables, batches, mesh)
    mask = np.concatenate([batch["mask"] for batch, _ in results])
    labels = np.concatenate([batch["labels"] for batch, _ in results])[mask]
    scores = {}
    for name in results[0][1]:
        logits = np.concatenate([outputs[name] for _, outputs in results])[mask]
        scores[name] = mean_average_precision(jax.nn.softmax(logits), labels)
    return scores


class Validation:
    """Scores a stage's variables on the videos on which epochs are compared."""

    def __init__(
        self, config: Config, stage: StageConfig, model: nn.Module, split: VideoSource, mesh: Mesh
    ) -> None:
        """Prepares the compiled step of `stage` and the batches of `split`."""
        self._separate = stage.objective == "separate"
        self._size, self._mesh = len(split), mesh
        self._batches = split_batches(
            split,
            config.data,
            mesh,
            num_frames=config.data.num_frames,
            image_size=config.model.image_size,
        )
        if self._separate:
            self._predict = steps.make_separate_predict_step(model, stage.train_policy_features)
        else:
            self._predict = make_predict_step(
                config.model, config.seed, routing="masked", mesh=mesh
            )

    def scores(
        self, variables: Any, watch: Callable[[Iterable[Batch]], Iterator[Batch]]
    ) -> dict[str, float]:
        """Validation mAP in percent by part.

        Args:
            variables: of the model.
            watch: hands the batches on, and may raise to break off.
        """
        batches = watch(self._batches)
        if self._separate:
            return separate_scores(self._predict, variables, batches, self._mesh)
        found = predict_split(self._predict, variables, batches, self._size, self._mesh)
        return {stages.MODEL: found.predictions.metrics()["mAP"]}
