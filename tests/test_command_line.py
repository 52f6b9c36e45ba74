"""The command line itself: spelling, versions, statuses, and what the system refuses."""

import argparse
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ar_net_jax
from ar_net_jax.checkpoints import save_model
from ar_net_jax.cli import costs
from ar_net_jax.cli.main import JOBS, build_parser, main
from ar_net_jax.errors import Preempted, UserError
from ar_net_jax.experiment import Config

COSTS = ["costs", "--config=demo"]


def _status(argv: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert _status(["--version"]) == 0
    assert capsys.readouterr().out == f"arnet {ar_net_jax.__version__}\n"


@pytest.mark.parametrize("job", [None, *JOBS])
def test_help_with_either_spelling(job: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    words = [job] if job else []
    assert _status(["help", *words]) == 0
    told = capsys.readouterr().out
    assert _status([*words, "--help"]) == 0
    assert capsys.readouterr().out == told
    if job:
        assert _status(["help", job.replace("-", "_")]) == 0
        assert capsys.readouterr().out == told


@pytest.mark.parametrize("job", JOBS)
def test_flags_are_spelt_with_dashes(job: str) -> None:
    (jobs,) = (a for a in build_parser(job)._actions if isinstance(a, argparse._SubParsersAction))
    flags = [flag for action in jobs.choices[job]._actions for flag in action.option_strings]
    assert flags and not [flag for flag in flags if "_" in flag]


def test_underscores_are_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    main([*COSTS, "--num-frames=4"])
    told = capsys.readouterr().out
    main([*COSTS, "--num_frames=4"])
    assert capsys.readouterr().out == told


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "did you mean 'train'?"),
        (["benchmark_trainin"], "did you mean 'benchmark-training'?"),
        (["zzz"], "the jobs are demo, "),
        ([*COSTS, "--imaginary=1"], "unknown argument --imaginary=1"),
        ([], "required: JOB"),
    ],
)
def test_wrong_usage_is_status_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _status(argv) == 2
    assert message in capsys.readouterr().err


def _raises(error: BaseException) -> Callable[..., None]:
    def run(flags: argparse.Namespace, overrides: object) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("x: wrong"), 1, "x: wrong"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 1, "/a/b: Permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "/a"), 1, "/a: Read-only file system"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "f/g"), 1, "f/g: Not a directory"),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            1,
            "a text file that should be UTF-8 is not",
        ),
        (Preempted("saved"), 75, "saved"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_what_ends_a_job_is_one_line(
    error: BaseException,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(costs, "run", _raises(error))
    assert _status(COSTS) == status
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"arnet costs: {line}")


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "run", _raises(TypeError("a fault")))
    with pytest.raises(TypeError, match="a fault"):
        main(COSTS)


def test_a_reader_that_has_enough_is_no_error() -> None:
    """As `arnet costs | head -1`: the pipe is closed before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ar_net_jax", *COSTS]
    found = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=200)
    os.close(writer)
    assert found.stderr == ""


@pytest.mark.parametrize(
    ("output", "message"),
    [("", "is a folder"), ("nowhere/x.json", "there is no folder"), ("locked/x", "cannot be writ")],
)
@pytest.mark.parametrize(
    "argv",
    [
        [*COSTS, "--json="],
        ["benchmark-training", "--config=demo", "--json="],
        ["prepare", "--name=video_folder", "--source-dir=/nowhere", "--json="],
        ["evaluate", "--workdir=/nowhere", "--output="],
        ["export", "--workdir=/nowhere", "--output="],
    ],
    ids=lambda argv: argv[0],
)
def test_outputs_are_tried_before_the_work(
    argv: list[str],
    output: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "locked").mkdir()
    # Not by its permissions: the superuser, whom containers run as, may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in os.fspath(path))
    assert _status([*argv[:-1], f"{argv[-1]}{tmp_path / output}"]) == 1
    assert message in capsys.readouterr().err


def test_predict_tries_its_output_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"")
    argv = ["predict", f"--workdir={tmp_path}", str(clip), f"--json={tmp_path}/no/x.json"]
    assert _status(argv) == 1
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("clip.mp4", "model", "neither a"),
        ("videos/clip.mp4", "model", "neither a"),
        ("model", "out.xyz", "nothing is written as '.xyz'"),
        ("model", "out.onnx", "nothing is written as '.onnx'"),
    ],
)
def test_convert_refuses_at_once(
    source: str, target: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _status(["convert", source, "--to", str(tmp_path / target)]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_model_in_one_file_is_loaded_and_may_be_read_by_all(tmp_path: Path) -> None:
    model = {"num_classes": 3, "resolution": 32, "backbone": "resnet8_tiny"}
    config = Config.from_dict({"method": "uniform", "model": model})
    rng = np.random.default_rng(0)
    shapes = config.build_method().variable_shapes()
    variables = {part: _drawn(tree, rng) for part, tree in shapes.items()}
    save_model(tmp_path / "model", variables, config.to_dict())
    file = tmp_path / "x.safetensors"
    before = os.umask(0o022)
    try:
        main(["convert", str(tmp_path / "model"), "--to", str(file)])
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o644
    frames = rng.integers(0, 256, (1, 2, 32, 32, 3), np.uint8)
    expected = ar_net_jax.load(tmp_path / "model")(frames).logits
    np.testing.assert_array_equal(ar_net_jax.load(file)(frames).logits, expected)


def _drawn(tree: object, rng: np.random.Generator) -> object:
    if isinstance(tree, dict):
        return {name: _drawn(item, rng) for name, item in tree.items()}
    return rng.uniform(0.1, 1.0, tree.shape).astype(np.float32)  # type: ignore[attr-defined]


def test_piped_tables_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """As wide as they are, where 80 columns do not hold them."""
    main(["costs", "--config=demo"])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in lines) > 80
    assert not [line for line in lines if "…" in line]
