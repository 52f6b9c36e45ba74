"""A method and a backbone of one's own, as CONTRIBUTING.md has them, through every job.

The default suite walks the short path (`test_contributing.py`); this is the long one, with a stop
and several processes.
"""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from cpu_devices import with_devices
from signalling import signal_when
from test_contributing import EXAMPLES

import ar_net_jax
from ar_net_jax.checkpoints import load_model
from ar_net_jax.cli.main import main
from ar_net_jax.data import registry
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.data.embedded.plan import EmbeddedSpec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few embedded videos, prepared once."""
    folder = tmp_path_factory.mktemp("embedded")
    spec = EmbeddedSpec(train=16, validation=8, test=8)
    registry.prepare("embedded", data_dir=folder, source_dir=None, progress=False, spec=spec)
    return folder


def _start(
    file: Path, workdir: Path, data_dir: Path, *flags: str, devices: int = 1
) -> subprocess.Popen[bytes]:
    """A training in a process of its own."""
    environment = {
        **with_devices(devices),
        "PYTHONPATH": str(Path(ar_net_jax.__file__).parents[1]),
    }
    command = [sys.executable, "-m", "ar_net_jax", "train", f"--config={file}", "--quiet"]
    command += [f"--workdir={workdir}", f"--config.data.data_dir={data_dir}"]
    return subprocess.Popen(
        [*command, "--config.log_every=1", "--config.checkpoint_every_steps=1", *flags],
        env=environment,
    )


def _steps(workdir: Path) -> list[dict[str, Any]]:
    files = list(workdir.glob("history/*/metrics.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def _losses(workdir: Path) -> list[float]:
    return [line["loss"] for line in _steps(workdir) if "loss" in line]


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.mark.parametrize("name", ["middle.py", "plain.py"])
def test_every_job_and_every_way_to_run(name: str, tmp_path: Path, data_dir: Path) -> None:
    file, run = tmp_path / name, tmp_path / "run"
    file.write_text(EXAMPLES[name])
    assert _start(file, run, data_dir).wait(timeout=500) == 0

    stopped = tmp_path / "stopped"
    status = signal_when(
        _start(file, stopped, data_dir), signal.SIGTERM, lambda: len(_losses(stopped)) >= 3
    )
    assert status == 75
    assert _start(file, stopped, data_dir).wait(timeout=500) == 0
    models = [load_model(workdir / "model")[0] for workdir in (run, stopped)]
    jax.tree.map(np.testing.assert_array_equal, *models)

    many = tmp_path / "many"
    address = f"--coordinator=localhost:{_free_port()}"
    processes = [
        _start(file, many, data_dir, address, "--num-processes=2", f"--process-id={i}", devices=2)
        for i in range(2)
    ]
    assert [process.wait(timeout=500) for process in processes] == [0, 0]
    # A sum over four devices has another order, and training makes its last bits grow.
    assert len(_losses(many)) == len(_losses(run))
    assert _losses(many)[:8] == pytest.approx(_losses(run)[:8], rel=1e-5)

    code = f"--method={file}"
    main(["evaluate", f"--workdir={run}", code, "--quiet"])
    clip = tmp_path / "clip.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 48, 3), np.uint8)
    write_video(clip, noise, fps=5, crf=30)
    predicted = tmp_path / "predicted.json"
    main(["predict", f"--workdir={run}", code, str(clip), f"--json={predicted}"])
    (video,) = json.loads(predicted.read_text())["videos"]
    assert video["gflops"] > 0 and video["classes"]
    main(["costs", f"--workdir={run}", code, f"--json={tmp_path / 'costs.json'}"])
    benchmark = ["benchmark", f"--checkpoints={run}", code, "--quick", "--quiet", "--batch=2"]
    main([*benchmark, f"--output={tmp_path / 'benchmark'}"])
    rows = json.loads((tmp_path / "benchmark" / "benchmark.json").read_text())["results"]
    assert all(row["videos_per_second"] > 0 for row in rows)
    artifact = tmp_path / "model.stablehlo"
    main(["export", f"--workdir={run}", code, f"--output={artifact}", "--platforms=cpu"])
    exported = jax.export.deserialize(artifact.read_bytes())
    length, side = exported.in_avals[0].shape[1], exported.in_avals[0].shape[2]
    frames = np.random.default_rng(1).integers(0, 256, (2, length, side, side, 3), np.uint8)
    answer = jax.jit(exported.call)(frames)
    expected = ar_net_jax.load(run)(frames)
    np.testing.assert_allclose(answer["logits"], expected.logits, atol=1e-5)
