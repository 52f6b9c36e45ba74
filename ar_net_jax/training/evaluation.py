"""One pass over a split: every video exactly once, padding left out."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ar_net_jax.data.pipeline import EvalBatches
from ar_net_jax.metrics import PredictionLog, Predictions, mean_average_precision
from ar_net_jax.training.devices import put_batch

PredictStep = Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]]


def run_split(
    predict: PredictStep, variables: Any, batches: EvalBatches, mesh: Mesh
) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Runs a prediction step over a split.

    The next batch is on its way to the devices before the last one's result is fetched.

    Returns:
        The batch without its frames and the step's outputs, for every batch, as host arrays.
    """
    pending: list[tuple[dict[str, np.ndarray], dict[str, jax.Array]]] = []
    done = []

    def fetch() -> None:
        batch, outputs = pending.pop(0)
        done.append((batch, jax.device_get(outputs)))

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
    predict: PredictStep, variables: Any, batches: EvalBatches, num_examples: int, mesh: Mesh
) -> tuple[Predictions, np.ndarray]:
    """Predictions of an approach for a whole split.

    Args:
        predict: from `make_predict_step`.
        variables: of the model.
        batches: of the split.
        num_examples: size of the split.
        mesh: the devices.

    Returns:
        The predictions in the order of the example ids, and int32 [N, T], the stored frames that
        were looked at.
    """
    log = PredictionLog(num_examples)
    frame_index = {}
    for batch, outputs in run_split(predict, variables, batches, mesh):
        frame_index |= dict(zip(batch["example_id"].tolist(), batch["frame_index"], strict=True))
        log.add(
            logits=outputs["logits"],
            actions=outputs["actions"],
            labels=batch["labels"],
            example_id=batch["example_id"],
            mask=batch["mask"],
        )
    predictions = log.finish()
    return predictions, np.stack([frame_index[i] for i in predictions.example_id.tolist()])


def separate_scores(
    predict: PredictStep, variables: Any, batches: EvalBatches, mesh: Mesh
) -> dict[str, float]:
    """MAP in percent of each backbone by itself, by name.

    Args:
        predict: from `make_separate_predict_step`.
        variables: of the model.
        batches: of the split.
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
