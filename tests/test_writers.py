"""Scalar writing: both files, resume after a kill, other processes silent."""

import json
import pathlib
import struct

import jax.numpy as jnp
import numpy as np
from tensorboardX.proto import event_pb2

from ar_net_jax.training.writers import HISTORY, ScalarWriter


def _lines(folder: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]


def _refuse(name: str) -> None:
    """Called by the JSON reader on NaN and infinities, which are not JSON."""
    raise AssertionError(f"{name} is not JSON")


def _events(folder: pathlib.Path) -> list[event_pb2.Event]:
    """Reads the one event file by its record format: length, checksum, data, checksum."""
    (path,) = folder.glob("events.out.tfevents.*")
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def test_writes_lines_and_events(tmp_path: pathlib.Path) -> None:
    with ScalarWriter(tmp_path / "run") as writer:
        writer.write(1, {"loss": 2.5, "tau": np.float32(0.5)}, stage="joint")
        writer.write(2, {"mAP": jnp.float32(50)})
    assert _lines(tmp_path / "run") == [
        {"step": 1, "stage": "joint", "loss": 2.5, "tau": 0.5},
        {"step": 2, "stage": "", "mAP": 50.0},
    ]
    points = [
        (e.step, v.tag, v.simple_value) for e in _events(tmp_path / "run") for v in e.summary.value
    ]
    assert points == [(1, "joint/loss", 2.5), (1, "joint/tau", 0.5), (2, "mAP", 50.0)]


def test_each_line_is_on_disk_at_once_and_is_valid_json(tmp_path: pathlib.Path) -> None:
    with ScalarWriter(tmp_path) as writer:
        writer.write(1, {"loss": float("nan"), "norm": float("inf")})
        text = (tmp_path / HISTORY).read_text()
    line = json.loads(text, parse_constant=_refuse)
    assert line == {"step": 1, "stage": "", "loss": None, "norm": None}


def test_resume_drops_what_the_killed_run_wrote_later(tmp_path: pathlib.Path) -> None:
    with ScalarWriter(tmp_path) as writer:
        for step in range(1, 6):
            writer.write(step, {"loss": step})
    with (tmp_path / HISTORY).open("a") as history:
        history.write('{"step": 3, "sta')
    for path in tmp_path.glob("events.*"):
        path.unlink()
    with ScalarWriter(tmp_path, resume_step=3) as writer:
        writer.write(4, {"loss": 40.0})
    assert [(line["step"], line["loss"]) for line in _lines(tmp_path)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 40.0),
    ]
    starts = [e.step for e in _events(tmp_path) if e.HasField("session_log")]
    assert starts == [4], "TensorBoard drops the earlier events from this step on"


def test_a_fresh_start_begins_the_history_anew(tmp_path: pathlib.Path) -> None:
    for loss in (1.0, 2.0):
        with ScalarWriter(tmp_path) as writer:
            writer.write(0, {"loss": loss})
    assert [line["loss"] for line in _lines(tmp_path)] == [2.0]


def test_other_processes_write_nothing(tmp_path: pathlib.Path) -> None:
    with ScalarWriter(tmp_path / "run", process_index=1) as writer:
        writer.write(1, {"loss": 1.0})
    assert not (tmp_path / "run").exists()
