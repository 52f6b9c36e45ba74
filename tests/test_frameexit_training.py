"""FrameExit, trained on the embedded data, beats exits at random places at the same cost."""

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
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.runtime.mesh import make_mesh
from ar_net_jax.training.loop import train


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VideoSource]:
    """The embedded data set, with next to no videos to compare epochs on: the last one is taken."""
    data, folder = load_config("demo").data, tmp_path_factory.mktemp("data")
    prepared = prepare_data(
        replace(data, embedded=EmbeddedConfig(validation=16)), folder, progress=False
    )
    return {name: VideoSource(prepared, name) for name in SPLITS}


def _scores(config: Config, variables: Any, split: VideoSource, draws: int = 5) -> dict[str, float]:
    """Test mAP in percent of the gates' exits, of the same exits dealt out anew, and of none."""
    method, mesh, length = config.build_method(), make_mesh(), config.data.num_frames
    infer = make_inference(method)
    batches = list(
        split_batches(split, config.data, mesh, num_frames=length, image_size=method.image_size)
    )
    mask = np.concatenate([batch["mask"] for batch in batches])
    labels = np.concatenate([batch["labels"] for batch in batches])[mask]

    def run(actions: np.ndarray | None) -> tuple[float, np.ndarray]:
        results, start = [], 0
        for batch in batches:
            videos = len(batch["mask"])
            forced = None if actions is None else actions[start : start + videos]
            start += videos
            order = jnp.arange(videos)
            keys = example_keys(config.seed, jnp.zeros_like(order), order)
            request = Request(batch["frames"], keys, forced_actions=forced)
            results.append(infer(variables, request, jnp.float32(0.0)))
        logits = np.concatenate([result.logits for result in results])
        taken = np.concatenate([result.actions for result in results])
        scores = np.asarray(jax.nn.softmax(logits[mask]))
        return mean_average_precision(scores, labels), taken

    gated, actions = run(None)
    rng = np.random.default_rng(config.seed)
    random = []
    for _ in range(draws):
        dealt = actions.copy()
        dealt[mask] = method.control_actions(actions[mask], rng)
        random.append(run(dealt)[0])
    everything, _ = run(np.zeros_like(actions))
    return {
        "frames": float((actions[mask] == 0).sum(1).mean()),
        "gated": gated,
        "random": float(np.mean(random)),
        "all": everything,
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_it_beats_random_exits(
    seed: int, splits: dict[str, VideoSource], tmp_path: Path, record_property: Any
) -> None:
    """At exactly the same cost: the same numbers of frames, dealt out to other videos."""
    overrides = [f"--config.seed={seed}", "--config.stages.classify.select=last"]
    config = load_config("demo:frameexit", overrides)
    train(config, tmp_path, splits["train"], splits["validation"], progress=False)
    scores = _scores(*load_config_and_variables(tmp_path), splits["test"])
    record_property("mAP", scores)
    print(f"seed {seed}: " + ", ".join(f"{k} {v:.1f}" for k, v in scores.items()))
    assert scores["frames"] < config.data.num_frames - 0.5, "some frames are saved"
    assert scores["gated"] > scores["random"] + 1
