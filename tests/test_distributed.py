"""Several processes train and evaluate like one; joining them; and what keeps them from it."""

import concurrent.futures
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from cpu_devices import with_devices
from jax._src.clusters import ClusterEnv
from method_configs import CONFIG, METHODS, ONE_NETWORK, SPEC, config_of
from workers import start_worker

from ar_net_jax.checkpoints import load_model
from ar_net_jax.data import registry
from ar_net_jax.errors import UserError
from ar_net_jax.runtime.barrier import wait_at_barrier
from ar_net_jax.runtime.distributed import Job, find_job


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    registry.prepare("embedded", data_dir=directory, progress=False, spec=SPEC)
    return directory


def _run(
    workdir: Path,
    data_dir: Path,
    processes: int,
    devices: int,
    *,
    config: dict[str, Any] = CONFIG,
    float64: bool = False,
    model: Path | None = None,
) -> None:
    """Trains on `processes` with `devices` each."""
    address = f"localhost:{_free_port()}"
    running = [
        start_worker(
            workdir,
            data_dir,
            config,
            environment=with_devices(devices),
            float64=float64,
            model=model,
            job=(address, processes, process_id),
            devices=processes * devices,
        )
        for process_id in range(processes)
    ]
    try:
        assert [process.wait(timeout=1500) for process in running] == [0] * processes
    finally:
        for process in running:
            process.kill()


def _losses(workdir: Path) -> dict[tuple[str, int], float]:
    lines = [
        json.loads(line)
        for path in workdir.glob("history/*/metrics.jsonl")
        for line in path.read_text().splitlines()
    ]
    return {(line["stage"], line["step"]): line["loss"] for line in lines if "loss" in line}


def _examples(workdir: Path) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """(epoch, example) of the rows of each step, joined over the processes in their order."""
    rows: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for path in sorted(workdir.glob("history/*/examples_*.jsonl")):
        for line in map(json.loads, path.read_text().splitlines()):
            found = zip(line["epoch"], line["example_id"])
            rows.setdefault((path.parent.name, line["step"]), []).extend(found)
    return rows


def _furthest(one: Path, other: Path) -> float:
    """Largest difference of any two parameters, relative to the largest of their array.

    A bias before a BatchNorm has no gradient but rounding, and stays below 1e-15 of its own.
    """
    pairs = zip(*(jax.tree.leaves(load_model(w / "model")[0]) for w in (one, other)), strict=True)
    return max(float(np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-8)) for a, b in pairs)


def _assert_every_video_once_an_epoch(workdir: Path) -> None:
    by_stage: dict[str, list[tuple[int, int]]] = {}
    for (stage, _), rows in sorted(_examples(workdir).items()):
        by_stage.setdefault(stage, []).extend(rows)
    for rows in by_stage.values():
        assert len(set(rows)) == len(rows)
        whole = max(epoch for epoch, _ in rows)
        for epoch in range(whole):
            assert {i for e, i in rows if e == epoch} == set(range(SPEC.train))


def test_two_processes_of_two_devices_train_and_evaluate_like_one(
    tmp_path: Path, data_dir: Path
) -> None:
    common = {"config": ONE_NETWORK, "model": tmp_path / "one" / "model"}
    _run(tmp_path / "one", data_dir, 1, 1, **common)
    _run(tmp_path / "many", data_dir, 2, 2, **common)
    assert _examples(tmp_path / "one") == _examples(tmp_path / "many")
    _assert_every_video_once_an_epoch(tmp_path / "many")
    one, many = _losses(tmp_path / "one"), _losses(tmp_path / "many")
    assert one.keys() == many.keys() and len(one) == 7
    assert many["joint", 1] == pytest.approx(one["joint", 1], rel=1e-5)
    # The rest may drift apart in float32, but not far in so few steps.
    assert many == pytest.approx(one, rel=1e-3)
    rows = [json.loads((tmp_path / w / "evaluation.json").read_text()) for w in ("one", "many")]
    assert rows[0] == rows[1], "of the same checkpoint, to the last digit"


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_in_float64_the_layout_changes_nothing_that_matters(
    method: str, tmp_path: Path, data_dir: Path
) -> None:
    config = config_of(method)
    layouts = {"one": (1, 1), "devices": (1, 4), "processes": (2, 2)}
    for name, layout in layouts.items():
        _run(tmp_path / name, data_dir, *layout, config=config, float64=True)
        _assert_every_video_once_an_epoch(tmp_path / name)
    one = _losses(tmp_path / "one")
    # An epoch is 3.5 steps.
    assert len(one) == sum(7 * stage["epochs"] // 2 for stage in config["stages"].values())
    for name in ("devices", "processes"):
        assert _examples(tmp_path / name) == _examples(tmp_path / "one")
        assert _losses(tmp_path / name) == pytest.approx(one, rel=1e-9)
        assert _furthest(tmp_path / "one", tmp_path / name) < 1e-6


@pytest.mark.slow
def test_a_stage_goes_on_with_other_processes_and_a_split_optimizer(
    tmp_path: Path, data_dir: Path
) -> None:
    config = CONFIG | {"optimizer": {"shard_state": True}}
    _run(tmp_path / "whole", data_dir, 1, 1, config=config)
    workdir = tmp_path / "moved"
    _run(workdir, data_dir, 2, 2, config=config)
    # Take the run back to the end of its first epoch, and go on in one process.
    for path in (workdir / "model", workdir / "stages", workdir / "checkpoints" / "joint" / "7"):
        assert path.exists()
        path.rename(tmp_path / f"away_{path.name}")
    (workdir / "history" / "0_joint" / "examples_1.jsonl").unlink()
    _run(workdir, data_dir, 1, 2, config=config)
    whole, moved = _examples(tmp_path / "whole"), _examples(workdir)
    assert {k: whole[k] for k in whole if k[1] > 4} == {k: moved[k] for k in moved if k[1] > 4}
    assert _losses(workdir) == pytest.approx(_losses(tmp_path / "whole"), rel=1e-3)


# --- Joining ------------------------------------------------------------------------------------


def _call(ids_and_counts: list[tuple[int, int]], timeout: float) -> list[str]:
    """What each process at a barrier is told: "" once all have arrived."""
    address = f"localhost:{_free_port()}"

    def one(place: tuple[int, int]) -> str:
        try:
            wait_at_barrier(address, place[1], place[0], timeout)
        except UserError as error:
            return str(error)
        return ""

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(one, ids_and_counts))


def test_a_barrier_opens_when_all_have_arrived() -> None:
    assert _call([(2, 3), (0, 3), (1, 3)], timeout=30) == ["", "", ""]


def test_missing_processes_are_named_to_all_who_arrived() -> None:
    answers = _call([(0, 5), (3, 5)], timeout=0.5)
    assert all(a.startswith("processes 1, 2, 4 of 5 did not join within") for a in answers)


def test_a_missing_first_process_is_named() -> None:
    (answer,) = _call([(1, 2)], timeout=0.5)
    assert answer.startswith("process 0 of 2 did not answer at localhost:")


@pytest.mark.parametrize(
    "places, fault",
    [
        ([(0, 3), (1, 3), (1, 3)], "two processes were both told that they are process 1"),
        ([(0, 2), (1, 3)], "process 0 was told of 2 processes, process 1 of 3"),
    ],
)
def test_processes_that_do_not_fit_together_are_told(
    places: list[tuple[int, int]], fault: str
) -> None:
    assert _call(places, timeout=30) == [fault] * len(places)


def test_strangers_at_the_port_are_ignored() -> None:
    address = f"localhost:{_free_port()}"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(wait_at_barrier, address, 2, 0, 30)
        while True:
            try:
                with socket.create_connection(
                    ("localhost", int(address.split(":")[1]))
                ) as stranger:
                    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                break
            except ConnectionRefusedError:
                continue
        wait_at_barrier(address, 2, 1, 30)
        first.result()


def test_the_command_names_the_missing_process(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "ar_net_jax",
        "train",
        "--config=demo",
        f"--workdir={tmp_path}",
    ]
    flags = [f"--coordinator=localhost:{_free_port()}", "--num-processes=2", "--process-id=0"]
    done = subprocess.run(
        [*command, *flags, "--join-timeout=1"], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "arnet train: process 1 of 2 did not join within 1 s; see whether it runs and can reach "
        "process 0"
    )


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(("SLURM_", "OMPI_", "TPU_", "JAX_COORD"))]:
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_launcher")
def test_alone_without_flags_or_launcher() -> None:
    assert find_job() is None
    assert find_job("host:1", 1, 0) is None


@pytest.mark.usefixtures("no_launcher")
def test_flags_make_a_job() -> None:
    assert find_job("host:1234", 4, 3) == Job("host:1234", 4, 3)
    with pytest.raises(UserError, match="--coordinator, --process-id: missing"):
        find_job(num_processes=2)
    with pytest.raises(UserError, match=r"--process-id=4: must lie in 0\.\.3"):
        find_job("host:1234", 4, 4)


@pytest.mark.usefixtures("no_launcher")
def test_slurm_makes_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "JOB_ID": "4711",
        "STEP_NODELIST": "node[007-008]",
        "NTASKS": "4",
        "PROCID": "3",
        "LOCALID": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    job = find_job()
    assert job.coordinator.startswith("node007:")
    assert (job.num_processes, job.process_id, job.local_device_ids) == (4, 3, [1])


@pytest.mark.usefixtures("no_launcher")
def test_open_mpi_makes_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911")
    for name, value in {"SIZE": "2", "RANK": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    job = find_job()
    assert job.coordinator.startswith("10.96.0.1:")
    assert (job.num_processes, job.process_id, job.local_device_ids) == (2, 1, [0])
    # A flag goes before what the launcher says.
    assert find_job("other:1").coordinator == "other:1"


@pytest.mark.usefixtures("no_launcher")
def test_a_jax_that_does_not_tell_leaves_only_lone_processes_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ClusterEnv, "auto_detect_unset_distributed_params", lambda: None)
    assert find_job() is None
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="give --coordinator, --num-processes and --process-id"):
        find_job()
