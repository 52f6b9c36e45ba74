"""The command line: help that reads well, and one line with status 1 on bad input."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from ar_net_jax.checkpoints import load_model, save_model
from ar_net_jax.cli.main import JOBS, main
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.experiment import load_config

TRAIN = ["train", "--config=demo", "--quiet"]


def _fails(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    """Runs a command that must fail with status 1; returns its only line."""
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--config.model.resolutoins=(32,16)"], "resolutoins"),
        (["--config.model.resolutions=(24,32,16)"], "model.resolutions: must be strictly desc"),
        (["--config.model.skips=(0,1)"], "model.skips: must be at least 1 frame each"),
        (["--config.model.backbones=('resnet9_slim','resnet8_slim')"], "model.backbones[0]"),
        (["--config.model.policy.cell_state=melting"], "model.policy.cell_state: must be one of"),
        (["--config.data.name=imaginary"], "imaginary"),
        (["--config.init_from=/nowhere"], "/nowhere"),
    ],
)
def test_bad_config(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, overrides: list[str], message: str
) -> None:
    argv = [*TRAIN, f"--workdir={tmp_path}", *overrides]
    if "init_from" in overrides[0]:
        argv += _tiny_folder(tmp_path)
    assert message in _fails(capsys, argv)


def _tiny_folder(tmp_path: Path) -> list[str]:
    """Flags for a folder with one short video in each split."""
    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for label in ("a", "b"):
            folder = tmp_path / "videos" / split / label
            folder.mkdir(parents=True)
            for i in range(2):
                frames = rng.integers(0, 255, (9, 64, 64, 3), np.uint8)
                write_video(folder / f"{i}.mp4", frames, fps=8, crf=30)
    return ["--config.data.name=video_folder", f"--config.data.source_dir={tmp_path / 'videos'}"]


def test_empty_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    argv = [*TRAIN, f"--workdir={tmp_path}", "--config.data.name=video_folder"]
    line = _fails(capsys, [*argv, f"--config.data.source_dir={tmp_path / 'videos'}"])
    assert str(tmp_path / "videos") in line


def test_too_many_bad_videos(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = _tiny_folder(tmp_path)
    bad = tmp_path / "videos" / "train" / "a" / "0.mp4"
    bad.write_bytes(bad.read_bytes()[:100])
    line = _fails(capsys, [*TRAIN, f"--workdir={tmp_path / 'run'}", *flags])
    assert "0.mp4" in line


def test_evaluate_refuses_a_folder_without_a_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "no finished model" in _fails(capsys, ["evaluate", f"--workdir={tmp_path}"])


def test_evaluate_refuses_a_checkpoint_that_does_not_fit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = load_config("demo")
    variables = jax.jit(config.build_method().initial_variables)(jax.random.key(0))
    save_model(tmp_path / "model", variables, config.to_dict())
    line = _fails(
        capsys, ["evaluate", f"--workdir={tmp_path}", "--config.model.policy.hidden_size=32"]
    )
    assert "lstm" in line and "64" in line and "32" in line


# One stage of small networks; all of the demo's take minutes.
SMALL = (
    "--config.model.resolutions=(24,16)",
    "--config.model.backbones=('resnet8_tiny',)",
    "--config.model.policy.resolution=16",
    "--config.data.num_frames=4",
    "--config.stage_order=('joint',)",
)


@pytest.mark.parametrize(
    "sizes", [SMALL, pytest.param((), marks=pytest.mark.slow)], ids=["small", "demo"]
)
def test_train_then_evaluate_own_videos(
    sizes: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    argv = ["train", "--config=demo:quick", "--quiet", f"--workdir={run}", *_tiny_folder(tmp_path)]
    argv += sizes
    main([*argv, "--config.model.num_classes=2", "--config.data.batch_size=2"])
    main(["evaluate", f"--workdir={run}", "--quiet"])
    document = json.loads((run / "evaluation_test.json").read_text())
    assert document["plan"]["source"] == "built in" and document["plan"]["form"] == "loop"
    figures = document["results"][0]
    assert figures["num_videos"] == 4
    assert 0 <= figures["mAP"] <= 100
    assert figures["gflops_convention"] == "macs"
    assert "AR-Net" in capsys.readouterr().out
    page = (run / "evaluation_test.html").read_text()
    assert "<h1>AR-Net on video_folder, test</h1>" in page
    assert page.count('<article class="strip">') == 4 and f"{figures['mAP']:.1f}%" in page
    shapes = load_model(run / "model")[0]["params"]
    total = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    table = (run / "parameters.txt").read_text()
    assert f"Total: {total:,} " in table and "backbone_0/head/kernel" in table


@pytest.mark.parametrize("job", ["", *JOBS])
def test_help(capsys: pytest.CaptureFixture[str], job: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*([job] if job else []), "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "usage: arnet" in text and max(map(len, text.splitlines())) < 120


def test_an_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--config=demo", "--workdir=x", "--sed=3"])
    assert stopped.value.code == 2
    assert "--sed=3" in capsys.readouterr().err
