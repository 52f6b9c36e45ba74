"""Bad input to every job: one line that names it, the status for it, and nothing written."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from saved_models import AR_NET, save_random_model

from ar_net_jax.cli.main import JOBS, main
from ar_net_jax.data.embedded.builder import write_video

TRAIN = "train --config=demo --quiet --workdir=new"
VIDEOS = f"{TRAIN} --config.data.name=video_folder --config.data.source_dir="

# By command, what its message holds. Folders and files are those of `world`.
BAD = {
    # Jobs, flags and numbers that are none.
    "trian": "did you mean 'train'?",
    "train": "the following arguments are required: --config",
    f"{TRAIN} --sed=3": "unknown argument --sed=3",
    "evaluate --workdir=run --cost-penalty=low": "'low' should be numbers separated by commas",
    "evaluate --workdir=run --chunks=4,x": "'4,x' should be whole numbers",
    "export --workdir=run --output=x --batch=few": "must be 'symbolic' or a whole number",
    # Configs.
    "train --config=demo": "--workdir: missing",
    "train --config=dmeo --workdir=new": "did you mean 'demo'?",
    "train --config=demo:lstmm --workdir=new": "no variant 'lstmm'",
    "train --config=no.py --workdir=new": "no.py",
    "train --config=latin.txt --workdir=new": "latin.txt",
    f"{TRAIN} --config.model.resolutoins=(32,16)": 'Did you mean "resolutions"',
    f"{TRAIN} --config.data.num_frames=0": "config.data.num_frames: must be at least 1",
    f"{TRAIN} --config.seed=soon": "seed",
    f"{TRAIN} --config.stage_order=('warmpu',)": "no stage named 'warmpu'",
    f"{TRAIN} --config.data.name=embeded": "did you mean 'embedded'?",
    f"{TRAIN} --config.data.embedded.train=4 --config.init_from=nowhere": "nowhere",
    f"{TRAIN} --profile=3": "such as 10:12",
    # Data.
    f"{VIDEOS}nowhere": "nowhere: no such folder",
    f"{VIDEOS}empty": "empty",
    f"{VIDEOS}broken": "broken",
    f"{VIDEOS}listed": "UTF-8",
    "prepare": "--config or --name: missing",
    "prepare --name=video_foldr --source-dir=videos --data-dir=new": "did you mean 'video_folder'?",
    "prepare --name=video_folder --source-dir=videos": "--data-dir: missing",
    "prepare --name=video_folder --source-dir=videos --data-dir=new --processes=0": "--processes",
    "prepare --name=video_folder --source-dir=broken --check --quiet": "1 of 1",
    # Folders.
    "train --config=demo --quiet --workdir=clip.txt": "clip.txt",
    "train --config=demo --quiet --workdir=s3://bucket/run": "s3://",
    "demo --quiet --workdir=gs://bucket/run": "--workdir: gs://bucket/run is in a bucket",
    "demo --quiet --workdir=clip.txt": "clip.txt",
    "costs --config=demo --json=no/x.json": "there is no folder no",
    "doctor --json=no/x.json": "there is no folder no",
    "tune --config=dmeo": "did you mean 'demo'?",
    # Models.
    "evaluate --workdir=empty": "no finished model here",
    "evaluate --workdir=damaged": "damaged and cannot be read",
    "evaluate --workdir=run --config.data.source_dir=others": "others",
    "evaluate --workdir=run --split=tset --config.data.source_dir=videos": "tset",
    "export --workdir=empty --output=x": "no finished model here",
    "convert nothing.pth.tar --to new": "nothing.pth.tar",
    "convert clip.txt --to new": "clip.txt",
    "convert run --to new --classes=latin.txt": "UTF-8",
    "convert run --to new --classes=few.txt": "few.txt",
    "push empty hf://me/mine --license=mit": "no finished model here",
    "push run me/mine --license=mit": "me/mine",
    # Videos.
    "predict --workdir=run nowhere.mp4": "nowhere.mp4",
    "predict --workdir=run clip.txt": "clip.txt",
    "predict --workdir=run cut.mp4": "cut.mp4",
    "predict --workdir=run --top=0 cut.mp4": "--top: must be at least 1",
    "watch --workdir=run --window=0 cut.mp4": "--window: must be a number of seconds above 0",
    "watch --workdir=run nowhere.mp4": "nowhere.mp4",
    # What is measured and compared.
    "costs --config=demo --usage=1,2": "2 given, but there are 6 actions",
    "costs --config=demo --num-frames=0": "--num-frames: must be at least 1",
    "benchmark": "give --configs, or --checkpoints",
    "benchmark --configs=demo --batch=0": "--batch: must be at least 1",
    "benchmark-training --config=demo --repetitions=0": "--repetitions: must be at least 1",
    "benchmark-training --config=demo --usage=1,2 --json=x.json": "2 given, but there are 6",
    "compare feild --workdir=new": "feild",
    "compare field --workdir=new --rows=nothing": "nothing",
}
# What argparse itself refuses has a line on usage before it.
USAGE = (
    "trian",
    "train",
    f"{TRAIN} --sed=3",
    *(c for c in BAD if c.endswith((",x", "=low", "=few"))),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, and folders and files with all sorts of faults."""
    folder = tmp_path_factory.mktemp("world")
    save_random_model(folder / "run", AR_NET, class_names=["a", "b", "c", "d"])
    shutil.copytree(folder / "run", folder / "damaged")
    for path in (folder / "damaged" / "model" / "variables").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    # Where a lock is taken before the splits are looked at.
    (folder / "run" / "data").mkdir()
    (folder / "empty").mkdir()
    (folder / "clip.txt").write_text("not a video")
    (folder / "latin.txt").write_bytes("Fußball\n".encode("latin-1"))
    (folder / "few.txt").write_text("a\nb\n")
    frames = np.random.default_rng(0).integers(0, 255, (9, 32, 32, 3), np.uint8)
    write_video(folder / "cut.mp4", frames, fps=8, crf=30)
    whole = (folder / "cut.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    for name, classes in {"videos": "ab", "others": "xy"}.items():
        for split in ("train", "validation", "test"):
            for label in classes:
                (folder / name / split / label).mkdir(parents=True)
                (folder / name / split / label / "0.mp4").write_bytes(whole)
    for split in ("train", "validation"):
        for label in "ab":
            (folder / "broken" / split / label).mkdir(parents=True)
    (folder / "broken" / "train" / "a" / "0.mp4").write_bytes(whole[:100])
    (folder / "listed").mkdir()
    for name in ("classes.txt", "train.csv", "validation.csv"):
        (folder / "listed" / name).write_bytes("Fußball\n".encode("latin-1"))
    return folder


def _contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


@pytest.mark.parametrize("command", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(
    command: str, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    before = _contents(world)
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == (2 if command in USAGE else 1), lines
    assert BAD[command] in lines[-1]
    job = command.split()[0]
    if command in USAGE:
        assert lines[0].startswith("usage: arnet") and lines[-1].startswith("arnet")
    else:
        assert len(lines) == 1 and lines[0].startswith(f"arnet {job}: "), lines
    assert _contents(world) == before


def test_every_job_is_among_them() -> None:
    assert {command.split()[0] for command in BAD} >= set(JOBS)
