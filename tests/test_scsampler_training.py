"""SCSampler, trained on the embedded data, beats random frames through the same main network."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import open_split, prepare_data
from ar_net_jax.evaluation.metrics import mean_average_precision
from ar_net_jax.evaluation.split import split_batches
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import load_config_and_variables
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.runtime.mesh import make_mesh
from ar_net_jax.training.loop import train


def _prepared(folder: Path) -> Path:
    """The embedded data set, without much of what a training chooses its epochs by."""
    spec = EmbeddedSpec(validation=16)
    return prepare_data(load_config("demo").data, folder, spec=spec, progress=False)


def _trained(workdir: Path, seed: int, epochs: int) -> tuple[Config, Any, VideoSource]:
    """A model of the demo's, its variables, and the videos to test it on."""
    how = [f"--config.seed={seed}", f"--config.stages.train.epochs={epochs}"]
    config = load_config("demo:scsampler", [*how, "--config.stages.train.select=last"])
    data_dir = _prepared(workdir)
    splits = {
        name: open_split(config.data, data_dir, name, config.model.num_classes)
        for name in ("train", "validation", "test")
    }
    folder = workdir / f"seed_{seed}"
    train(config, folder, splits["train"], splits["validation"], progress=False)
    return *load_config_and_variables(folder), splits["test"]


def _scores(config: Config, variables: Any, split: VideoSource, draws: int = 5) -> dict[str, float]:
    """Test mAP in percent of the most salient frames, of as many random ones, and of all."""
    method, mesh, length = config.build_method(), make_mesh(), config.data.num_frames
    infer = make_inference(method, routing="masked")
    batches = list(
        split_batches(split, config.data, mesh, num_frames=length, image_size=method.image_size)
    )
    mask = np.concatenate([batch["mask"] for batch in batches])
    labels = np.concatenate([batch["labels"] for batch in batches])[mask]
    rng = np.random.default_rng(config.seed)

    def score(looked_at: int | None) -> float:
        logits = []
        for batch in batches:
            videos = len(batch["mask"])
            forced = None
            if looked_at is not None:
                ranks = rng.random((videos, length)).argsort(1).argsort(1)
                forced = (ranks >= looked_at).astype(np.int32)
            order = jnp.arange(videos)
            keys = example_keys(config.seed, jnp.zeros_like(order), order)
            request = Request(batch["frames"], keys, forced_actions=forced)
            logits.append(infer(variables, request, jnp.float32(0.0)).logits)
        scores = jax.nn.softmax(np.concatenate(logits)[mask])
        return mean_average_precision(scores, labels)

    chosen = config.model.frames
    return {
        "salient": score(None),
        "random": float(np.mean([score(chosen) for _ in range(draws)])),
        "all": score(length),
    }


@pytest.mark.slow
def test_it_beats_random_frames(
    tmp_path_factory: pytest.TempPathFactory, record_property: Any
) -> None:
    """By three points of mAP at the same two of eight frames, in the mean over three seeds."""
    workdir, gains = tmp_path_factory.mktemp("scsampler"), []
    for seed in range(3):
        scores = _scores(*_trained(workdir, seed, epochs=16))
        gains.append(scores["salient"] - scores["random"])
        record_property(f"mAP_{seed}", scores)
        print(f"seed {seed}: " + ", ".join(f"{k} {v:.1f}" for k, v in scores.items()))
    assert min(gains) > 0
    assert np.mean(gains) >= 3
