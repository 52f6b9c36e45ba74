"""One run at a time in a work directory; who holds it is told, and a dead one's is taken over."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from signalling import signal_when

from ar_net_jax.cli.main import main
from ar_net_jax.errors import UserError
from ar_net_jax.runtime.run_lock import LOCK, locked

HOLD = """
import sys, time
from ar_net_jax.runtime.run_lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds the directory."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_until_the_first_is_dead(
    tmp_path: Path, holder: subprocess.Popen, capsys: pytest.CaptureFixture[str]
) -> None:
    who = f"process {holder.pid} on {socket.gethostname()}, begun "
    with pytest.raises(UserError, match=f"{tmp_path}: in use by {who}.*wait for its end"):
        with locked(tmp_path):
            raise AssertionError("locked twice")
    assert json.loads((tmp_path / LOCK).read_text())["process"] == holder.pid
    signal_when(holder, signal.SIGKILL, lambda: True)
    assert (tmp_path / LOCK).exists(), "it had no time to remove it"
    with locked(tmp_path):
        assert f"{who}" in capsys.readouterr().out
        assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_an_orderly_end_leaves_nothing_and_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="failed"), locked(tmp_path / "run"):
            raise ValueError("failed")
    assert not list(tmp_path.iterdir()), "a folder that was made for nothing"
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"):
        (tmp_path / "run" / LOCK).write_text("damaged")
    assert capsys.readouterr().out == "" and not list((tmp_path / "run").iterdir())


def test_in_one_process_too(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()} on"):
        with locked(tmp_path):
            raise AssertionError("locked twice")


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("argv", [["demo", "--quick"], ["train", "--config=demo:quick", "--quiet"]])
def test_jobs_say_so_in_one_line(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as stopped:
        main([*argv, f"--workdir={tmp_path}"])
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}: in use by process" in line
    assert sorted(tmp_path.iterdir()) == before
