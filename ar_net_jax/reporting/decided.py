"""Videos of a split to show decisions on."""

from collections.abc import Sequence

import numpy as np

from ar_net_jax.config.data import DataConfig
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.data.pipeline import eval_batches
from ar_net_jax.data.registry import EMBEDDED
from ar_net_jax.data.source import VideoExample, VideoSource
from ar_net_jax.evaluation.evaluate import Evaluation
from ar_net_jax.experiment import Config
from ar_net_jax.reporting.decisions import DecidedVideo


def pick_videos(
    config: Config, evaluation: Evaluation, split: VideoSource, count: int = 4
) -> list[DecidedVideo]:
    """Videos for a picture of decisions: spread evenly over what they cost.

    Args:
        config: of the model.
        evaluation: of it on the split, with the choices made.
        split: the videos.
        count: how many; of a smaller split, all of its videos.
    """
    method, predictions = config.build_method(), evaluation.predictions
    actions, index = predictions.actions, predictions.frame_index
    assert actions is not None and index is not None, "the evaluation of a model records them"
    order = np.argsort(evaluation.gflops, kind="stable")
    places = np.linspace(0, len(order) - 1, count + 2).round().astype(int)[1:-1]
    picked = order[np.unique(places)].tolist()
    batches = eval_batches(
        _Picked(split, picked),
        num_frames=actions.shape[1],
        image_size=method.image_size,
        batch_size=len(picked),
    )
    (batch,) = batches
    rate = stored_rate(config.data)
    names = output_names(split.class_names, predictions.scores.shape[1])
    return [
        DecidedVideo(
            frames=frames,
            sides=[method.side_of(int(action)) for action in actions[i]],
            captions=[method.choices.names[action] for action in actions[i]],
            full_side=method.image_size,
            labels=[split.class_names[k] for k in predictions.labels[i] if k >= 0],
            prediction=names[int(np.argmax(predictions.scores[i]))],
            gflops=float(evaluation.gflops[i]),
            gflops_convention=config.model.gflops_convention,
            name=split[i]["name"],
            probability=float(np.max(predictions.scores[i])),
            times=None if rate is None else (index[i] / rate).tolist(),
        )
        for i, frames in zip(picked, batch["frames"], strict=True)
    ]


def output_names(class_names: Sequence[str], outputs: int) -> list[str]:
    """A name for each output of a model, which may have more of them than its data has classes.

    >>> output_names(["cat"], 2)
    ['cat', 'output 1']
    """
    return [*class_names, *(f"output {k}" for k in range(len(class_names), outputs))]


def stored_rate(data: DataConfig) -> float | None:
    """Frames per second of a prepared data set; None where its videos keep their own."""
    if data.name == EMBEDDED:
        return float(EmbeddedSpec().fps)
    return data.frame_rate or None


class _Picked:
    """Some videos of a split, as a split."""

    def __init__(self, source: VideoSource, indices: Sequence[int]) -> None:
        self.split, self.max_labels = source.split, source.max_labels
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> VideoExample:
        return self._source[self._indices[index]]
