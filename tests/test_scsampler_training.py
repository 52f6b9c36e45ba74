"""SCSampler, trained on the embedded data, beats random frames through the same main network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.checkpoints import load_model, save_model
from ar_net_jax.config.data import EmbeddedConfig
from ar_net_jax.data.embedded.plan import SPLITS
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import prepare_data
from ar_net_jax.evaluation.metrics import mean_average_precision
from ar_net_jax.evaluation.split import split_batches
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import load_config_and_variables
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.methods.scsampler import MAIN
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.runtime.mesh import make_mesh
from ar_net_jax.training.loop import train

# Epochs of the main network, and of the sampler for each seed. In the demo both have 80.
MAIN_EPOCHS, SAMPLER_EPOCHS = 24, 12


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VideoSource]:
    """The embedded data set, with next to no videos to compare epochs on: the last one is taken."""
    data, folder = load_config("demo").data, tmp_path_factory.mktemp("data")
    prepared = prepare_data(
        replace(data, embedded=EmbeddedConfig(validation=16)), folder, progress=False
    )
    return {name: VideoSource(prepared, name) for name in SPLITS}


def _train(
    workdir: Path, splits: dict[str, VideoSource], epochs: int, *overrides: str
) -> tuple[Config, dict[str, Any]]:
    """The demo's model, trained for so many epochs."""
    how = [f"--config.stages.train.epochs={epochs}", "--config.stages.train.select=last"]
    every = [f"--config.{field}_every={epochs}" for field in ("evaluate", "checkpoint")]
    config = load_config("demo:scsampler", [*how, *every, *overrides])
    train(config, workdir, splits["train"], splits["validation"], progress=False)
    return load_config_and_variables(workdir)


@pytest.fixture(scope="module")
def main_network(tmp_path_factory: pytest.TempPathFactory, splits: dict[str, VideoSource]) -> Path:
    """A trained main network without a sampler."""
    folder = tmp_path_factory.mktemp("main")
    config, variables = _train(folder / "run", splits, MAIN_EPOCHS)
    alone = {kind: {MAIN: tree[MAIN]} for kind, tree in variables.items()}
    save_model(folder / "main", alone, config.to_dict())
    return folder / "main"


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
        scores = np.asarray(jax.nn.softmax(np.concatenate(logits)[mask]))
        return mean_average_precision(scores, labels)

    chosen = config.model.frames
    return {
        "salient": score(None),
        "random": float(np.mean([score(chosen) for _ in range(draws)])),
        "all": score(length),
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_it_beats_random_frames(
    seed: int,
    main_network: Path,
    splits: dict[str, VideoSource],
    tmp_path: Path,
    record_property: Any,
) -> None:
    """By three points of mAP at the same two of eight frames, whatever the sampler's seed."""
    start = [f"--config.init_from={main_network}", "--config.stages.train.freeze_backbone=True"]
    config, variables = _train(
        tmp_path, splits, SAMPLER_EPOCHS, *start, f"--config.seed={seed + 1}"
    )
    before, _ = load_model(main_network)
    kept = {kind: tree[MAIN] for kind, tree in variables.items()}
    given = {kind: tree[MAIN] for kind, tree in before.items()}
    jax.tree.map(np.testing.assert_array_equal, kept, given)
    scores = _scores(config, variables, splits["test"])
    record_property("mAP", scores)
    print(f"seed {seed}: " + ", ".join(f"{k} {v:.1f}" for k, v in scores.items()))
    assert scores["salient"] >= scores["random"] + 3
