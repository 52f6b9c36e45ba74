"""What a model scores on a split, and what it computes for that."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ar_net_jax.config.model import Convention
from ar_net_jax.costs.cost import total_gflops
from ar_net_jax.data.pipeline import Batch
from ar_net_jax.data.source import VideoSource
from ar_net_jax.evaluation.metrics import Predictions, action_usage
from ar_net_jax.evaluation.split import predict_split, split_batches
from ar_net_jax.experiment import Config
from ar_net_jax.inference.plan import Plan
from ar_net_jax.inference.probabilities import class_probabilities
from ar_net_jax.inference.step import Routing, make_predict_step
from ar_net_jax.methods import Method
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.runtime.mesh import make_mesh, put_batch, replicate
from ar_net_jax.runtime.timing import time_interleaved


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a model scores on a split, and what it computes for that.

    Attributes:
        mAP: mean average precision in percent, over all labels of a video.
        mAP_first_label: over the first label alone.
        top1: accuracy in percent.
        top5: share of videos in percent whose first label is among the five best scored classes.
        gflops_per_frame: by what each video needed, in the model's convention.
        gflops_per_video: likewise.
        gflops_convention: how GFLOPs are counted.
        usage: share of frames by choice; None where there is one choice.
        executed_gflops_per_video: what was really computed, in the same convention.
        routing: form of execution.
        cost_penalty: of the costly actions' logits.
        num_frames: of a video.
        num_videos: of the split.
    """

    mAP: float
    mAP_first_label: float
    top1: float
    top5: float
    gflops_per_frame: float
    gflops_per_video: float
    gflops_convention: Convention
    usage: dict[str, float] | None
    executed_gflops_per_video: float
    routing: Routing
    cost_penalty: float
    num_frames: int
    num_videos: int


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Predictions of a model on a split, with the figures drawn from them.

    Attributes:
        predictions: by video.
        gflops: float64 [N], of each video by what it needed, in the model's convention.
        figures: over all videos.
        again: computes the split's first batch once more, whatever it is called with; for timing.
        batch_size: videos in that batch.
    """

    predictions: Predictions
    gflops: np.ndarray
    figures: Figures
    again: Callable[[int], Any]
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast a model is by itself, on a batch that lies on the devices already.

    Attributes:
        videos_per_second: from the median time.
        speed_batch_size: videos at once.
    """

    videos_per_second: float
    speed_batch_size: int


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
    forced_actions: np.ndarray | None = None,
    random_crops: bool = False,
    plan: Plan | None = None,
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
        forced_actions: int32 [N, T], decisions imposed on every video of the split, such as those
            of `Method.control_actions`; None leaves them to the model.
        random_crops: draw by the config's seed what a method with the trait `crops` decides.
        plan: how the routed form runs; None for the usual sizes of chunk.
    """
    num_frames = num_frames or config.data.num_frames
    mesh, method = make_mesh(), config.build_method()
    size = image_size or method.image_size
    batches = split_batches(split, config.data, mesh, num_frames=num_frames, image_size=size)
    predict = make_predict_step(
        method,
        config.seed,
        routing=routing,
        cost_penalty=cost_penalty,
        chunks=chunks,
        random_crops=random_crops,
        mesh=mesh,
        plan=plan,
    )
    variables = replicate(variables, mesh)
    first: list[Batch] = []
    imposed = batches if forced_actions is None else _impose(batches, forced_actions)
    scores = functools.partial(class_probabilities, config)
    predictions, executed = predict_split(
        predict, variables, _keep_first(imposed, first), len(split), mesh, to_scores=scores
    )
    resident = put_batch(first[0], mesh)
    gflops = total_gflops(method.networks(), predictions.calls, config.model.gflops_convention)
    figures = _figures(
        method,
        predictions,
        gflops,
        executed,
        routing=routing,
        cost_penalty=cost_penalty,
        num_frames=num_frames,
    )
    return Evaluation(
        predictions,
        gflops,
        figures,
        again=lambda _: predict(variables, resident).logits,
        batch_size=config.data.eval_batch_size,
    )


def _figures(
    method: Method[Any, Any],
    predictions: Predictions,
    gflops: np.ndarray,
    executed: dict[str, int],
    *,
    routing: Routing,
    cost_penalty: float,
    num_frames: int,
) -> Figures:
    convention = method.config.gflops_convention
    computed = total_gflops(method.networks(), executed, convention)
    return Figures(
        **predictions.metrics(),
        gflops_per_frame=float(gflops.mean()) / num_frames,
        gflops_per_video=float(gflops.mean()),
        gflops_convention=convention,
        usage=usage_by_choice(method, predictions),
        executed_gflops_per_video=computed / len(gflops),
        routing=routing,
        cost_penalty=cost_penalty,
        num_frames=num_frames,
        num_videos=len(gflops),
    )


def usage_by_choice(method: Method[Any, Any], predictions: Predictions) -> dict[str, float] | None:
    """The share of frames that went to each choice, by name; None where there is one choice."""
    names = method.choices.names
    if len(names) == 1 or predictions.actions is None:
        return None
    usage = action_usage(predictions.actions, len(names))
    return dict(zip(names, usage.tolist(), strict=True))


def _impose(batches: Iterable[Batch], actions: np.ndarray) -> Iterator[Batch]:
    """Batches with the actions [N, T] of their videos; padding rows get those of any."""
    for batch in batches:
        yield {**batch, "forced_actions": actions[batch["example_id"]]}


def _keep_first(batches: Iterable[Batch], kept: list[Batch]) -> Iterator[Batch]:
    """Hands batches on, and puts the first of them into `kept`."""
    for batch in batches:
        if not kept:
            kept.append(batch)
        yield batch


def measure_speed(evaluations: Mapping[str, Evaluation], rounds: int = 9) -> dict[str, Speed]:
    """Speed of models, each on the first batch of its split.

    Args:
        evaluations: of the models to be compared, by any name.
        rounds: calls of each; they take turns.
    """
    seconds = time_interleaved({name: e.again for name, e in evaluations.items()}, rounds)
    return {
        name: Speed(
            videos_per_second=evaluation.batch_size / float(np.median(seconds[name])),
            speed_batch_size=evaluation.batch_size,
        )
        for name, evaluation in evaluations.items()
    }
