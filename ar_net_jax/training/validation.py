"""Scores a stage's variables on the videos on which epochs are compared."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jax.sharding import Mesh

from ar_net_jax.data.pipeline import Batch
from ar_net_jax.data.source import VideoSource
from ar_net_jax.evaluation.evaluate import usage_by_choice
from ar_net_jax.evaluation.metrics import mean_average_precision
from ar_net_jax.evaluation.split import PredictStep, predict_split, run_split, split_batches
from ar_net_jax.experiment import Config
from ar_net_jax.inference.probabilities import class_probabilities
from ar_net_jax.inference.step import make_predict_step
from ar_net_jax.methods import MODEL, StageConfig
from ar_net_jax.training import steps


class Validation:
    """The compiled evaluation of a stage, and the batches that it runs on.

    Attributes:
        usage: share of frames by choice in the last evaluation; None where there is one choice, or
            none is made.
    """

    def __init__(self, config: Config, stage: StageConfig, split: VideoSource, mesh: Mesh) -> None:
        """Prepares the compiled step of `stage` and the batches of `split`."""
        self.usage: dict[str, float] | None = None
        self._probabilities = functools.partial(class_probabilities, config)
        self._method = method = config.build_method()
        self._separate = stage.objective == "separate"
        self._size, self._mesh = len(split), mesh
        self._batches = split_batches(
            split,
            config.data,
            mesh,
            num_frames=config.data.num_frames,
            image_size=method.image_size,
        )
        self._predict: PredictStep
        if self._separate:
            self._predict = steps.make_separate_predict_step(method, stage)
        else:
            self._predict = make_predict_step(method, config.seed, routing="masked", mesh=mesh)

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
            return separate_scores(
                self._predict, variables, batches, self._mesh, self._probabilities
            )
        found, _ = predict_split(
            self._predict,
            variables,
            batches,
            self._size,
            self._mesh,
            to_scores=self._probabilities,
        )
        self.usage = usage_by_choice(self._method, found)
        return {MODEL: found.metrics()["mAP"]}


def separate_scores(
    predict: PredictStep,
    variables: Any,
    batches: Iterable[Batch],
    mesh: Mesh,
    to_scores: Callable[[np.ndarray], np.ndarray],
) -> dict[str, float]:
    """MAP in percent of each network by itself, by name of its module.

    Args:
        predict: from `make_separate_predict_step`.
        variables: of the model.
        batches: this process's share of the split.
        mesh: the devices.
        to_scores: from logits [N, C] to scores float64 [N, C].
    """
    results = run_split(predict, variables, batches, mesh)
    mask = np.concatenate([batch["mask"] for batch, _ in results])
    labels = np.concatenate([batch["labels"] for batch, _ in results])[mask]
    scores = {}
    for name in results[0][1]:
        logits = np.concatenate([outputs[name] for _, outputs in results])[mask]
        scores[name] = mean_average_precision(to_scores(logits), labels)
    return scores
