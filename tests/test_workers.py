"""Worker processes: what they leave behind, which is nothing, and what they tell."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ar_net_jax.data.workers import read_by_workers

# Reads some batches by two workers, prints which processes there are and which named memory they
# hold, and ends in one of several ways.
READER = """
import contextlib, gc, json, multiprocessing, os, pathlib, signal, sys
import numpy as np
from ar_net_jax.data.workers import read_by_workers

class Rows:
    def __len__(self):
        return 1000

    def __getitem__(self, place):
        return {"frames": np.full((8, 64, 64, 3), place, np.uint8), "id": np.int32(place)}

def named_memory(pid):
    files = [line.split()[-1] for line in pathlib.Path(f"/proc/{pid}/maps").open()]
    for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since
            files.append(os.readlink(descriptor))
    return [file for file in files if file.startswith("/dev/shm")]

if __name__ == "__main__":
    batches = read_by_workers(Rows(), batch_size=4, num_workers=2)
    kept = [next(batches) for _ in range(3)]
    assert kept[2]["id"].tolist() == [8, 9, 10, 11] and (kept[2]["frames"][3] == 11).all()
    workers = [process.pid for process in multiprocessing.active_children()]
    named = [file for pid in [os.getpid(), *workers] for file in named_memory(pid)]
    print(json.dumps({"workers": workers, "named": named}), flush=True)
    match sys.argv[1]:
        case "closed":
            batches.close()
        case "dropped":
            del batches
            gc.collect()
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "all killed":
            os.killpg(0, signal.SIGKILL)
    if sys.argv[1] in ("closed", "dropped"):
        assert not multiprocessing.active_children()
"""


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


@pytest.mark.parametrize("end", ["closed", "dropped", "left open", "killed", "all killed"])
def test_nothing_is_left_behind(end: str, tmp_path: Path) -> None:
    script = tmp_path / "reader.py"
    script.write_text(READER)
    (tmp_path / "temporary").mkdir()
    root = Path(__file__).parents[1]
    run = subprocess.run(
        [sys.executable, script, end],
        env=os.environ | {"TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert run.returncode == (-signal.SIGKILL if "killed" in end else 0), run.stderr
    assert run.stderr == ""
    told = json.loads(run.stdout)
    assert len(told["workers"]) == 2
    # What has no name while it is in use cannot be left when a process dies, however it does.
    assert told["named"] == []
    assert list((tmp_path / "temporary").iterdir()) == []
    deadline = time.monotonic() + 20
    while not all(map(_gone, told["workers"])) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(_gone, told["workers"]))


class Odd(Exception):
    """Cannot be rebuilt from its message."""

    def __init__(self, place: int, reason: str) -> None:
        super().__init__(f"row {place}: {reason}")


class Failing:
    """Rows of which one cannot be read."""

    def __init__(self, make_error: Callable[[], Exception]) -> None:
        self.make_error = make_error

    def __len__(self) -> int:
        return 8

    def __getitem__(self, place: int) -> dict[str, np.generic]:
        if place == 5:
            raise self.make_error()
        return {"id": np.int32(place)}


@pytest.mark.parametrize(
    "make_error, seen, message",
    [
        (lambda: ConnectionResetError("bucket"), ConnectionResetError, "bucket"),
        (lambda: Odd(5, "lost"), RuntimeError, "Odd: row 5: lost"),
    ],
)
def test_what_fails_in_a_worker_fails_in_its_turn(
    make_error: Callable[[], Exception], seen: type, message: str
) -> None:
    batches = read_by_workers(Failing(make_error), batch_size=2, num_workers=2)
    assert [next(batches)["id"].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(seen) as caught:
        next(batches)
    assert str(caught.value) == message
    if seen is ConnectionResetError:
        assert "in __getitem__" in caught.value.__notes__[0]


def test_the_last_batch_is_left_out_when_it_is_not_full() -> None:
    rows = [{"id": np.int32(i), "even": np.bool_(i % 2 == 0)} for i in range(7)]
    batches = list(read_by_workers(rows, batch_size=3, num_workers=2))
    assert [batch["id"].tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5]]
    assert batches[1]["even"].dtype == bool and batches[1]["even"].tolist() == [False, True, False]
