"""ListenToLook, trained on the embedded data, beats random frames through the same main network."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.data.embedded.plan import SPLITS
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import prepare_data
from ar_net_jax.evaluation.metrics import mean_average_precision
from ar_net_jax.evaluation.split import split_batches
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import load_config_and_variables
from ar_net_jax.inference.step import Request, make_inference
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.runtime.mesh import make_mesh
from ar_net_jax.training.loop import train

# Epochs of the two networks, and of the attention and the fine-tuning for each seed. In the demo
# they are 56, 20 and 4.
WARMUP_EPOCHS, JOINT_EPOCHS, FINETUNE_EPOCHS = 24, 8, 2


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VideoSource]:
    """The embedded data set."""
    data, folder = load_config("demo").data, tmp_path_factory.mktemp("data")
    prepared = prepare_data(data, folder, progress=False)
    return {name: VideoSource(prepared, name) for name in SPLITS}


def _train(
    workdir: Path, splits: dict[str, VideoSource], stages: dict[str, int], *overrides: str
) -> tuple[Config, dict[str, Any]]:
    """The demo's model, trained in these stages for so many epochs."""
    order = "(" + "".join(f"'{name}'," for name in stages) + ")"
    how = [f"--config.stage_order={order}"]
    how += [f"--config.stages.{name}.epochs={epochs}" for name, epochs in stages.items()]
    config = load_config("demo:listentolook", [*how, *overrides])
    train(config, workdir, splits["train"], splits["validation"], progress=False)
    return load_config_and_variables(workdir)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory, splits: dict[str, VideoSource]) -> Path:
    """The saved model of the two networks, trained by themselves: the seeds share them."""
    workdir = tmp_path_factory.mktemp("networks")
    every = f"--config.evaluate_every={WARMUP_EPOCHS // 2}"
    _train(workdir, splits, {"warmup": WARMUP_EPOCHS}, every)
    return workdir / "model"


def _scores(config: Config, variables: Any, split: VideoSource, draws: int = 5) -> dict[str, float]:
    """Test mAP in percent of the frames that are picked, and of as many at random."""
    method, mesh, length = config.build_method(), make_mesh(), config.data.num_frames
    infer = make_inference(method, routing="masked")
    batches = list(
        split_batches(split, config.data, mesh, num_frames=length, image_size=method.image_size)
    )
    mask = np.concatenate([batch["mask"] for batch in batches])
    labels = np.concatenate([batch["labels"] for batch in batches])[mask]

    def run(imposed: list[np.ndarray] | None) -> tuple[float, list[np.ndarray]]:
        results = []
        for i, batch in enumerate(batches):
            order = jnp.arange(len(batch["mask"]))
            keys = example_keys(config.seed, jnp.zeros_like(order), order)
            forced = None if imposed is None else imposed[i]
            request = Request(batch["frames"], keys, forced_actions=forced)
            results.append(infer(variables, request, jnp.float32(0.0)))
        logits = np.concatenate([result.logits for result in results])[mask]
        scores = np.asarray(jax.nn.softmax(logits))
        actions = [np.asarray(result.actions) for result in results]
        return mean_average_precision(scores, labels), actions

    rng = np.random.default_rng(config.seed)
    picked, actions = run(None)
    assert all((batch == 0).sum(1).max() == config.model.frames for batch in actions)
    drawn = [
        run([method.control_actions(batch, rng) for batch in actions])[0] for _ in range(draws)
    ]
    return {"picked": picked, "random": float(np.mean(drawn))}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_it_beats_random_frames(
    seed: int,
    networks: Path,
    splits: dict[str, VideoSource],
    tmp_path: Path,
    record_property: Any,
) -> None:
    """By three points of mAP at the same two of eight frames, whatever the attention's seed."""
    stages = {"joint": JOINT_EPOCHS, "finetune": FINETUNE_EPOCHS}
    start = [f"--config.init_from={networks}", f"--config.seed={seed + 1}"]
    config, variables = _train(tmp_path, splits, stages, *start)
    scores = _scores(config, variables, splits["test"])
    record_property("mAP", scores)
    print(f"seed {seed}: " + ", ".join(f"{k} {v:.1f}" for k, v in scores.items()))
    assert scores["picked"] >= scores["random"] + 3
