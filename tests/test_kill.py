"""SIGKILL at some moment of a training, the same command again: the same model, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from ar_net_jax.checkpoints import load_model
from ar_net_jax.data import registry
from ar_net_jax.data.embedded_plan import EmbeddedSpec

SMALL = [
    "--config.model.resolutions=(24,16)",
    "--config.model.backbones=('resnet8_tiny',)",
    "--config.model.policy.resolution=16",
    "--config.data.num_frames=2",
    "--config.stage_order=('joint',)",
    "--config.stages.joint.epochs=6",
    "--config.log_every=1",
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    spec = EmbeddedSpec(train=16, validation=8, test=4)
    registry.prepare("embedded", data_dir=directory, spec=spec, progress=False)
    return directory


def _start(workdir: Path, data_dir: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "ar_net_jax", "train", "--config=demo", "--quiet"]
    # As a folder of videos the set stays as it is; as `embedded` it would be drawn in full.
    flags = [
        f"--workdir={workdir}",
        "--config.data.name=video_folder",
        f"--config.data.source_dir={data_dir / 'videos'}",
        f"--config.data.data_dir={data_dir / 'built'}",
    ]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen([*command, *flags, *SMALL], env=environment)


def _lines(workdir: Path) -> int:
    history = workdir / "history" / "0_joint" / "metrics.jsonl"
    return len(history.read_text().splitlines()) if history.exists() else 0


def test_a_killed_training_ends_in_the_same_model(tmp_path: Path, data_dir: Path) -> None:
    assert _start(tmp_path / "whole", data_dir).wait(timeout=300) == 0
    # Once in the first epochs, once later: 4 steps and one line of validation make an epoch.
    for lines in (7, 17):
        process = _start(tmp_path / "killed", data_dir)
        deadline = time.monotonic() + 200
        while _lines(tmp_path / "killed") < lines and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "killed" / "model").exists(), "killed too late to show anything"
    assert _start(tmp_path / "killed", data_dir).wait(timeout=300) == 0
    whole, killed = (load_model(tmp_path / name / "model")[0] for name in ("whole", "killed"))
    jax.tree.map(np.testing.assert_array_equal, whole, killed)
    histories = [
        (tmp_path / name / "history" / "0_joint" / "metrics.jsonl").read_text()
        for name in ("whole", "killed")
    ]
    assert histories[0] == histories[1]
