"""AdaFocusV2 and Uni-AdaFocus, trained on the embedded data, beat random parts of frames."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.config.data import EmbeddedConfig
from ar_net_jax.data.embedded.plan import SPLITS
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import prepare_data
from ar_net_jax.evaluation.metrics import mean_average_precision
from ar_net_jax.evaluation.split import split_batches
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import load_config_and_variables
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.ops.confidence import exit_thresholds
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.runtime.mesh import make_mesh
from ar_net_jax.training.loop import train

EPOCHS = 40


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VideoSource]:
    """The embedded data set, with next to no videos to compare epochs on: the last one is taken."""
    data, folder = load_config("demo").data, tmp_path_factory.mktemp("data")
    prepared = prepare_data(
        replace(data, embedded=EmbeddedConfig(validation=16)), folder, progress=False
    )
    return {name: VideoSource(prepared, name) for name in SPLITS}


def _train(
    name: str, workdir: Path, splits: dict[str, VideoSource], seed: int
) -> tuple[Config, dict[str, Any]]:
    """The demo's model of a method."""
    how = [f"--config.stages.train.epochs={EPOCHS}", "--config.stages.train.select=last"]
    every = [f"--config.{field}_every={EPOCHS}" for field in ("evaluate", "checkpoint")]
    config = load_config(f"demo:{name}", [*how, *every, f"--config.seed={seed + 1}"])
    train(config, workdir, splits["train"], splits["validation"], progress=False)
    return load_config_and_variables(workdir)


class _Split:
    """A split's batches, kept, and what a model scores on them."""

    def __init__(self, config: Config, split: VideoSource) -> None:
        method, mesh = config.build_method(), make_mesh()
        size, length = method.image_size, config.data.num_frames
        self.batches = list(
            split_batches(split, config.data, mesh, num_frames=length, image_size=size)
        )
        self.mask = np.concatenate([batch["mask"] for batch in self.batches])
        self.labels = np.concatenate([batch["labels"] for batch in self.batches])[self.mask]

    def run(
        self, config: Config, variables: Any, *, seed: int = 0, actions: Any = None, **how: bool
    ) -> tuple[float, np.ndarray]:
        """Test mAP in percent, and the actions int32 [N, T] of all rows, padding included."""
        infer = make_inference(config.build_method(), routing="masked", **how)
        logits, taken, start = [], [], 0
        for batch in self.batches:
            videos = len(batch["mask"])
            order = jnp.arange(start, start + videos)
            keys = example_keys(seed, jnp.zeros_like(order), order)
            forced = None if actions is None else actions[start : start + videos]
            request = Request(batch["frames"], keys, forced_actions=forced)
            result = infer(variables, request, jnp.float32(0.0))
            logits.append(result.logits)
            taken.append(result.actions)
            start += videos
        scores = np.asarray(jax.nn.softmax(np.concatenate(logits)[self.mask]))
        return mean_average_precision(scores, self.labels), np.concatenate(taken)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adafocus_v2", "uni_adafocus"])
@pytest.mark.parametrize("seed", range(3))
def test_it_beats_random_parts(
    name: str, seed: int, splits: dict[str, VideoSource], tmp_path: Path, record_property: Any
) -> None:
    """At the same cost; Uni-AdaFocus besides random frames."""
    config, variables = _train(name, tmp_path, splits, seed)
    test = _Split(config, splits["test"])
    own, actions = test.run(config, variables)
    rng, method, drawn = np.random.default_rng(seed), config.build_method(), []
    for draw in range(5):
        chosen = None
        if len(method.choices) > 1:
            chosen = method.control_actions(actions, rng)
        found = test.run(config, variables, seed=draw, actions=chosen, random_crops=True)
        drawn.append(found[0])
    scores = {"own": own, "random": float(np.mean(drawn))}
    record_property("mAP", scores)
    print(f"{name}, seed {seed}: " + ", ".join(f"{k} {v:.1f}" for k, v in scores.items()))
    assert scores["own"] > scores["random"]


@pytest.mark.slow
def test_confidence_beats_random_exits(
    splits: dict[str, VideoSource], tmp_path: Path, record_property: Any
) -> None:
    """Thresholds are found on the training videos; the control mixes the videos' lengths."""
    config, variables = _train("adafocus_v2", tmp_path, splits, 0)
    confidences = config.build_method().step_confidences()
    train_split = _Split(config, splits["train"])
    found = [np.asarray(confidences(variables, b["frames"])) for b in train_split.batches]
    limits = exit_thresholds(np.concatenate(found)[train_split.mask], 0.8)
    ended = replace(config, model=replace(config.model, exit=limits))
    test = _Split(config, splits["test"])
    own, actions = test.run(ended, variables)
    rng, method = np.random.default_rng(0), ended.build_method()
    drawn = [
        test.run(ended, variables, actions=method.control_actions(actions, rng))[0]
        for _ in range(5)
    ]
    scores = {"confidence": own, "random": float(np.mean(drawn))}
    record_property("mAP", scores)
    print(", ".join(f"{k} {v:.1f}" for k, v in scores.items()))
    assert scores["confidence"] > scores["random"]
