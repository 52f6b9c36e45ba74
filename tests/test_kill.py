"""A training is killed or told to stop, the same command again: the same model, bit for bit.

All of it is slow; the default suite interrupts trainings inside one process (`test_loop.py`,
`test_faults.py`).
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from method_configs import METHODS, SPEC, config_of
from signalling import signal_when
from workers import start_worker

from ar_net_jax.checkpoints import load_model
from ar_net_jax.data import registry
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.demo.plan import Plan

VIDEOS = 16
SMALL = [
    "--config.model.resolutions=(24,16)",
    "--config.model.backbones=('resnet8_tiny',)",
    "--config.model.policy.resolution=16",
    "--config.data.num_frames=2",
    "--config.stage_order=('joint',)",
    "--config.stages.joint.epochs=6",
    "--config.evaluate_every=1",
    "--config.checkpoint_every=1",
    "--config.log_every=1",
    "--log-examples",
]


class Runs:
    """Starts trainings of one config on one data set, sharing compiled programs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        spec = EmbeddedSpec(train=VIDEOS, validation=8, test=4)
        registry.prepare("embedded", data_dir=directory, spec=spec, progress=False)

    def start(self, workdir: Path, *flags: str) -> subprocess.Popen:
        """The command; its output goes to `<workdir>.log`."""
        command = [sys.executable, "-m", "ar_net_jax", "train", "--config=demo"]
        # As a folder of videos the set stays as it is; as `embedded` it would be drawn in full.
        data = [
            "--config.data.name=video_folder",
            f"--config.data.source_dir={self.directory / 'videos'}",
            f"--config.data.data_dir={self.directory / 'built'}",
        ]
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(self.directory / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        }
        with open(workdir.with_suffix(".log"), "a") as log:
            return subprocess.Popen(
                [*command, f"--workdir={workdir}", *data, *SMALL, *flags],
                env=environment,
                stdout=log,
                stderr=log,
            )

    def finish(self, workdir: Path, *flags: str) -> Path:
        """Runs the command to its end."""
        status = self.start(workdir, *flags).wait(timeout=300)
        assert status == 0, workdir.with_suffix(".log").read_text()
        return workdir


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, runs: Runs) -> Path:
    """A run that nobody disturbed."""
    return runs.finish(tmp_path_factory.mktemp("whole") / "run")


def _history(workdir: Path, name: str) -> str:
    path = workdir / "history" / "0_joint" / name
    return path.read_text() if path.exists() else ""


def _lines(workdir: Path) -> int:
    return len(_history(workdir, "metrics.jsonl").splitlines())


def _assert_same_run(one: Path, other: Path) -> None:
    models = (load_model(workdir / "model")[0] for workdir in (one, other))
    jax.tree.map(np.testing.assert_array_equal, *models)
    texts = [
        {path.relative_to(run): path.read_text() for path in run.glob("history/*/*.jsonl")}
        for run in (one, other)
    ]
    assert texts[0] and texts[0] == texts[1]


def _assert_every_video_once_an_epoch(workdir: Path) -> None:
    lines = [json.loads(line) for line in _history(workdir, "examples_0.jsonl").splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    rows = [row for line in lines for row in zip(line["epoch"], line["example_id"])]
    assert sorted(rows) == [(e, i) for e in range(len(rows) // VIDEOS) for i in range(VIDEOS)]


@pytest.mark.slow
def test_killed_once_and_told_to_stop_once_it_ends_in_the_same_model(
    tmp_path: Path, runs: Runs, whole: Path
) -> None:
    workdir = tmp_path / "disturbed"
    process = runs.start(workdir)
    assert signal_when(process, signal.SIGKILL, lambda: _lines(workdir) >= 7) == -signal.SIGKILL
    for number, lines, status, told in (
        (signal.SIGINT, 12, 130, "stopped"),
        (signal.SIGTERM, 17, 75, "told to stop"),
    ):
        process = runs.start(workdir)
        assert signal_when(process, number, lambda n=lines: _lines(workdir) >= n) == status
        done = json.loads(_history(workdir, "metrics.jsonl").splitlines()[-1])["step"]
        assert (workdir / "checkpoints" / "joint" / str(done)).exists(), "its last step is saved"
        last_line = workdir.with_suffix(".log").read_text().strip().splitlines()[-1]
        assert last_line == (
            f"arnet train: {told}; stage 'joint' is saved at step {done} of 24, and the same "
            "command goes on from there"
        )
    before = len(workdir.with_suffix(".log").read_text())
    _assert_same_run(runs.finish(workdir), whole)
    after = workdir.with_suffix(".log").read_text()[before:]
    assert f"goes on: joint, step {done + 1} of 24" in after
    assert f"joint {done + 1}/24" in after and f"joint {done}/24 | loss" not in after
    _assert_every_video_once_an_epoch(workdir)


@pytest.mark.slow
def test_processes_stop_together_when_one_is_told_to(tmp_path: Path, runs: Runs) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"

    def start_both(workdir: Path) -> list[subprocess.Popen]:
        with socket.create_server(("", 0)) as server:
            port = server.getsockname()[1]
        flags = [f"--coordinator=localhost:{port}", "--num-processes=2"]
        return [runs.start(workdir, *flags, f"--process-id={i}") for i in (0, 1)]

    first, second = start_both(stopped)
    signal_when(second, signal.SIGTERM, lambda: _lines(stopped) >= 7)
    assert [first.wait(timeout=100), second.returncode] == [75, 75]
    done = json.loads(_history(stopped, "metrics.jsonl").splitlines()[-1])["step"]
    assert (stopped / "checkpoints" / "joint" / str(done)).exists()
    for workdir in (stopped, whole):
        assert [process.wait(timeout=300) for process in start_both(workdir)] == [0, 0]
    _assert_same_run(stopped, whole)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(tmp_path: Path, runs: Runs) -> None:
    flags = ("--config.stages.joint.epochs=20", "--config.checkpoint_every_steps=1")
    whole = runs.finish(tmp_path / "whole", *flags)
    _assert_every_video_once_an_epoch(whole)
    workdir, rng, in_a_save = tmp_path / "killed", random.Random(0), 0
    saves = workdir / "checkpoints" / "joint"
    for kill in range(20):
        process = runs.start(workdir, *flags)
        seen = _lines(workdir) + 1
        if kill % 2:
            # While a checkpoint is being written.
            rest = rng.uniform(0, 0.05)

            def ready(seen: int = seen) -> bool:
                return _lines(workdir) > seen and any(saves.glob("*tmp*"))

        else:
            rest = rng.uniform(0, 1)

            def ready(seen: int = seen) -> bool:
                return _lines(workdir) > seen

        deadline = time.monotonic() + 200
        while not ready() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(rest)
        process.kill()
        process.wait()
        in_a_save += any(saves.glob("*tmp*"))
    assert not (workdir / "model").exists(), "killed too late to show anything"
    assert in_a_save >= 5
    _assert_same_run(runs.finish(workdir, *flags), whole)


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    registry.prepare("embedded", data_dir=directory, progress=False, spec=SPEC)
    return directory


def _start_worker(workdir: Path, data_dir: Path, config: dict[str, Any]) -> subprocess.Popen:
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(data_dir / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    with open(workdir.with_suffix(".log"), "a") as log:
        return start_worker(workdir, data_dir, config, environment=environment, log=log)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_killed_in_each_stage_ends_in_the_same_model(
    method: str, tmp_path: Path, tiny_data: Path
) -> None:
    config = config_of(method) | {"checkpoint_every_steps": 2}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert _start_worker(whole, tiny_data, config).wait(timeout=900) == 0
    for index, stage in enumerate(config["stage_order"]):
        lines = killed / "history" / f"{index}_{stage}" / "metrics.jsonl"
        process = _start_worker(killed, tiny_data, config)
        # In the middle of the stage, a step or two after its last checkpoint.
        status = signal_when(
            process,
            signal.SIGKILL,
            lambda path=lines: path.exists() and len(path.read_text().splitlines()) >= 4,
        )
        assert status == -signal.SIGKILL, killed.with_suffix(".log").read_text()
        assert not (killed / "model").exists(), "killed too late to show anything"
    assert _start_worker(killed, tiny_data, config).wait(timeout=900) == 0
    _assert_same_run(killed, whole)


def _start_demo(workdir: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "ar_net_jax", "demo", "--quick", "--quiet"]
    with open(workdir.with_suffix(".log"), "a") as log:
        return subprocess.Popen(
            [*command, f"--workdir={workdir}"],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=log,
            stderr=log,
        )


@pytest.mark.slow
def test_a_demo_killed_three_times_ends_in_the_same_models(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert _start_demo(whole).wait() == 0, whole.with_suffix(".log").read_text()
    # While the data is drawn, in AR-Net's joint stage, and half-way through the baselines.
    for place in ("data/videos/train/00010.mp4", "ar_net/history/0_joint", "lstm/history"):
        process = _start_demo(killed)
        status = signal_when(process, signal.SIGKILL, (killed / place).exists)
        assert status == -signal.SIGKILL, killed.with_suffix(".log").read_text()
    assert _start_demo(killed).wait() == 0, killed.with_suffix(".log").read_text()
    for run in Plan(whole).runs:
        models = (load_model(workdir / run.name / "model")[0] for workdir in (whole, killed))
        jax.tree.map(np.testing.assert_array_equal, *models)
    tables = [json.loads((workdir / "results.json").read_text()) for workdir in (whole, killed)]
    for row, other in zip(*(table["results"] for table in tables), strict=True):
        assert {**row, "videos_per_second": 0} == {**other, "videos_per_second": 0}
