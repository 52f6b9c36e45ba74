"""`arnet compare field --quick` from end to end: killed on the way, it ends the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROWS = ("uniform", "scsampler", "ar_net")


def _command(workdir: Path) -> list[str]:
    flags = ["field", "--quick", "--quiet", f"--workdir={workdir}", f"--rows={','.join(ROWS)}"]
    # Half of the quick videos; these machines may be slow.
    few = [f"--config.data.embedded.{split}=16" for split in ("train", "validation", "test")]
    return [sys.executable, "-m", "ar_net_jax", "compare", *flags, *few]


def _scores(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "quick" / "field" / "study.json").read_text())
    assert not document["failures"]
    return {
        row["name"]: (
            row["score"],
            row["gflops"],
            row["control"],
            [p["score"] for p in row["curve"]],
        )
        for row in document["rows"]
    }


@pytest.mark.slow
def test_a_quick_study_killed_in_the_middle_ends_the_same(tmp_path: Path) -> None:
    subprocess.run(_command(tmp_path / "whole"), check=True, timeout=900)
    killed = subprocess.Popen(_command(tmp_path / "killed"), start_new_session=True)
    deadline = time.monotonic() + 600
    while not list((tmp_path / "killed").glob("quick/runs/*/model")):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    subprocess.run(_command(tmp_path / "killed"), check=True, timeout=900)
    scores = _scores(tmp_path / "whole")
    assert list(scores) == ["uniform", "ar_net", "scsampler"]
    assert scores["uniform"][2] is None and scores["ar_net"][2] and scores["scsampler"][2]
    assert scores == _scores(tmp_path / "killed")
    folder = tmp_path / "whole" / "quick" / "field"
    for name in ("tables.md", "tables.csv", "tables.tex", "curve_gflops.png", "curve_ms.png"):
        assert (folder / name).stat().st_size > 100
    strips = {path.stem for path in (folder / "decisions").iterdir()}
    assert strips == {"ar_net", "scsampler"}
