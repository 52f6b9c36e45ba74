"""OCSampler, trained on the embedded data, beats random sets before the same classifier."""

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
from ar_net_jax.methods.ocsampler import MAIN
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.runtime.mesh import make_mesh
from ar_net_jax.training.loop import train

# Epochs of the classifier, and of the sampler for each seed. In the demo they have 56 and 24.
CLASSIFIER_EPOCHS, SAMPLER_EPOCHS = 24, 24
DRAWS = 5


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VideoSource]:
    """The embedded data set, with next to no videos to compare epochs on: the last one is taken."""
    data, folder = load_config("demo").data, tmp_path_factory.mktemp("data")
    prepared = prepare_data(
        replace(data, embedded=EmbeddedConfig(validation=16)), folder, progress=False
    )
    return {name: VideoSource(prepared, name) for name in SPLITS}


def _train(
    workdir: Path, splits: dict[str, VideoSource], stage: str, epochs: int, *overrides: str
) -> tuple[Config, dict[str, Any]]:
    """One stage of the demo's model, trained for so many epochs."""
    how = [f"--config.stages.{stage}.epochs={epochs}", f"--config.stages.{stage}.select=last"]
    every = [f"--config.{field}_every={epochs}" for field in ("evaluate", "checkpoint")]
    order = f"--config.stage_order=('{stage}',)"
    config = load_config("demo:ocsampler", [*how, *every, order, *overrides])
    train(config, workdir, splits["train"], splits["validation"], progress=False)
    return load_config_and_variables(workdir)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, splits: dict[str, VideoSource]) -> Path:
    """A trained classifier without a skim network."""
    folder = tmp_path_factory.mktemp("classifier")
    config, variables = _train(folder / "run", splits, "classifier", CLASSIFIER_EPOCHS)
    alone = {kind: {MAIN: tree[MAIN]} for kind, tree in variables.items()}
    save_model(folder / "classifier", alone, config.to_dict())
    return folder / "classifier"


def _scores(config: Config, variables: Any, split: VideoSource) -> dict[str, float]:
    """Test mAP in percent of the sets chosen, and of random ones of as many frames."""
    method, mesh = config.build_method(), make_mesh()
    infer = make_inference(method, routing="masked")
    size = {"num_frames": config.data.num_frames, "image_size": method.image_size}
    batches = list(split_batches(split, config.data, mesh, **size))
    mask = np.concatenate([batch["mask"] for batch in batches])
    labels = np.concatenate([batch["labels"] for batch in batches])[mask]
    generator = np.random.default_rng(config.seed)
    chosen: list[np.ndarray] = []

    def score(control: bool) -> float:
        logits = []
        for number, batch in enumerate(batches):
            forced = None
            if control:
                forced = method.control_actions(chosen[number], generator)
            order = jnp.arange(len(batch["mask"]))
            keys = example_keys(config.seed, jnp.zeros_like(order), order)
            request = Request(batch["frames"], keys, forced_actions=forced)
            result = infer(variables, request, jnp.float32(0.0))
            logits.append(result.logits)
            if not control:
                chosen.append(np.asarray(result.actions))
        scores = np.asarray(jax.nn.softmax(np.concatenate(logits)[mask]))
        return mean_average_precision(scores, labels)

    own = score(control=False)
    return {"chosen": own, "random": float(np.mean([score(control=True) for _ in range(DRAWS)]))}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_it_beats_random_sets(
    seed: int,
    classifier: Path,
    splits: dict[str, VideoSource],
    tmp_path: Path,
    record_property: Any,
) -> None:
    """At the same two of eight frames, whatever the sampler's seed; the classifier is kept."""
    start = f"--config.init_from={classifier}"
    config, variables = _train(
        tmp_path, splits, "sampler", SAMPLER_EPOCHS, start, f"--config.seed={seed + 1}"
    )
    before, _ = load_model(classifier)
    kept = {kind: tree[MAIN] for kind, tree in variables.items()}
    given = {kind: tree[MAIN] for kind, tree in before.items()}
    jax.tree.map(np.testing.assert_array_equal, kept, given)
    scores = _scores(config, variables, splits["test"])
    record_property("mAP", scores)
    print(f"seed {seed}: " + ", ".join(f"{k} {v:.1f}" for k, v in scores.items()))
    assert scores["chosen"] > scores["random"]
