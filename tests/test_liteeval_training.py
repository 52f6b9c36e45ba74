"""LiteEval, trained on the embedded data, beats a gate that opens as often but at random."""

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
from ar_net_jax.modules.gated_recurrence import OPEN
from ar_net_jax.ops.rng import example_keys
from ar_net_jax.runtime.mesh import make_mesh
from ar_net_jax.training.loop import train

WARMUP_EPOCHS, JOINT_EPOCHS = 32, 24


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VideoSource]:
    """The embedded data set."""
    data, folder = load_config("demo").data, tmp_path_factory.mktemp("data")
    prepared = prepare_data(data, folder, progress=False)
    return {name: VideoSource(prepared, name) for name in SPLITS}


def _run(
    workdir: Path, splits: dict[str, VideoSource], overrides: list[str]
) -> tuple[Config, dict[str, Any]]:
    config = load_config("demo:liteeval", overrides)
    train(config, workdir, splits["train"], splits["validation"], progress=False)
    return load_config_and_variables(workdir)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory, splits: dict[str, VideoSource]) -> Path:
    """The work directory of the two networks, trained by themselves: the seeds share them."""
    workdir = tmp_path_factory.mktemp("networks") / "run"
    every = [f"--config.{field}_every={WARMUP_EPOCHS}" for field in ("evaluate", "checkpoint")]
    stage = ["--config.stage_order=('warmup',)", f"--config.stages.warmup.epochs={WARMUP_EPOCHS}"]
    _run(workdir, splits, [*every, *stage, "--config.stages.warmup.select=last"])
    return workdir


def _scores(
    config: Config, variables: Any, split: VideoSource, draws: int = 5
) -> tuple[float, float, float]:
    """MAP in percent of the gate and of its random control, and the share of opened frames."""
    method, mesh, length = config.build_method(), make_mesh(), config.data.num_frames
    infer = make_inference(method, routing="masked")
    batches = list(
        split_batches(split, config.data, mesh, num_frames=length, image_size=method.image_size)
    )
    mask = np.concatenate([batch["mask"] for batch in batches])
    labels = np.concatenate([batch["labels"] for batch in batches])[mask]

    def run(forced: list[np.ndarray | None]) -> tuple[float, list[np.ndarray]]:
        logits, actions = [], []
        for batch, given in zip(batches, forced, strict=True):
            order = jnp.arange(len(batch["mask"]))
            keys = example_keys(config.seed, jnp.zeros_like(order), order)
            request = Request(batch["frames"], keys, forced_actions=given)
            result = infer(variables, request, jnp.float32(0.0))
            logits.append(np.asarray(result.logits))
            actions.append(np.asarray(result.actions))
        scores = np.asarray(jax.nn.softmax(np.concatenate(logits)[mask]))
        return mean_average_precision(scores, labels), actions

    own, actions = run([None] * len(batches))
    rng = np.random.default_rng(config.seed)
    control = [run([method.control_actions(a, rng) for a in actions])[0] for _ in range(draws)]
    usage = np.mean(np.concatenate(actions)[mask] == OPEN)
    return own, float(np.mean(control)), float(usage)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_it_beats_a_random_gate_of_the_same_usage(
    seed: int,
    networks: Path,
    splits: dict[str, VideoSource],
    tmp_path: Path,
    record_property: Any,
) -> None:
    """The usage is that which training came to; no threshold is chosen on the test videos."""
    how = [
        f"--config.init_from={networks}",
        "--config.stage_order=('joint',)",
        f"--config.stages.joint.epochs={JOINT_EPOCHS}",
        f"--config.seed={seed + 1}",
    ]
    config, variables = _run(tmp_path, splits, how)
    own, control, usage = _scores(config, variables, splits["test"])
    record_property("mAP", {"gate": own, "control": control, "usage": usage})
    print(f"seed {seed}: gate {own:.1f}, control {control:.1f}, usage {usage:.3f}")
    target = config.stages["joint"].losses["gate_usage"].target
    assert abs(usage - target) < 0.1
    assert own > control
