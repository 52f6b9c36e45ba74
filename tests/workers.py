"""Starts `distributed_worker.py`: one process of a job that trains."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ar_net_jax

_SCRIPT = Path(__file__).with_name("distributed_worker.py")


def start_worker(
    workdir: Path,
    data_dir: Path,
    config: Mapping[str, Any],
    *,
    environment: Mapping[str, str] = os.environ,
    float64: bool = False,
    model: Path | None = None,
    job: tuple[str, int, int] | None = None,
    devices: int = 1,
    log: Any = None,
) -> subprocess.Popen:
    """Starts a process that trains.

    Args:
        workdir: of the run.
        data_dir: where the embedded data set is prepared.
        config: of the run.
        environment: of the process.
        float64: compute in twice the digits.
        model: to be evaluated after the training.
        job: address of process 0, number of processes, and which this is; None alone.
        devices: of the whole job.
        log: file that gets what the process prints; None for where this one prints.
    """
    coordinator, num_processes, process_id = job or (None, None, None)
    spec = {
        "workdir": str(workdir),
        "data_dir": str(data_dir),
        "config": config,
        "float64": float64,
        "model": str(model) if model else "",
        "coordinator": coordinator,
        "num_processes": num_processes,
        "process_id": process_id,
        "devices": devices,
    }
    # Python puts a script's own folder on the path, not the one it is started from.
    root = str(Path(ar_net_jax.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, str(_SCRIPT), json.dumps(spec)],
        env={**environment, "PYTHONPATH": root},
        stdout=log,
        stderr=log,
    )
