"""From a source to its splits, as jobs ask for them: checked first, offered, told."""

import json
from pathlib import Path

import numpy as np
import pytest

from ar_net_jax.cli.main import main
from ar_net_jax.config.data import DataConfig
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import prepare_data
from ar_net_jax.errors import UserError

NEEDED = ("train", "validation")


def _videos(root: Path, *folders: str, count: int = 5) -> None:
    path = root.parent / "v.mp4"
    write_video(path, np.full((4, 48, 64, 3), 100, np.uint8), fps=4, crf=30)
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for i in range(count):
            (root / folder / f"{i}.mp4").write_bytes(path.read_bytes())


def _prepare(root: Path, **config: float) -> Path:
    data = DataConfig(source_dir=str(root), **config)
    return prepare_data(data, root.parent / "run", needed=NEEDED, progress=False)


def _report(root: Path) -> dict:
    (path,) = root.parent.rglob("report.json")
    return json.loads(path.read_text())


def test_a_split_called_val_is_the_validation_split(tmp_path: Path) -> None:
    _videos(tmp_path / "V", "train/run", "val/run", count=2)
    folder = _prepare(tmp_path / "V")
    assert len(VideoSource(folder, "validation")) == 2
    assert "the split 'val' is taken as 'validation'" in _report(tmp_path / "V")["notes"]


@pytest.mark.parametrize("folders", [("run", "jump"), ("train/run", "train/jump", "test/run")])
def test_a_missing_split_is_told_before_anything_is_decoded(
    tmp_path: Path, folders: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    _videos(tmp_path / "V", *folders)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the frames of a video were asked for")

    monkeypatch.setattr("ar_net_jax.data.registry.build", refuse)
    message = r"V: has no videos of the split 'validation' .*--config\.data\.validation_share=0\.2"
    with pytest.raises(UserError, match=message):
        _prepare(tmp_path / "V")


@pytest.mark.parametrize("form", ["folders", "list"])
def test_what_is_not_split_can_be(tmp_path: Path, form: str) -> None:
    root = tmp_path / "V"
    _videos(root, "run", "jump")
    if form == "list":
        (root / "classes.txt").write_text("jump\nrun\n")
        rows = [f"{label}/{i}.mp4,{label}\n" for label in ("run", "jump") for i in range(5)]
        (root / "all.csv").write_text("".join(rows))
    folder = _prepare(root, validation_share=0.4)
    names = {}
    for split, count in (("train", 6), ("validation", 4)):
        source = VideoSource(folder, split)
        assert len(source) == count and source.class_names == ["jump", "run"]
        labels = [int(source[i]["labels"][0]) for i in range(count)]
        assert sorted(labels) == [0] * (count // 2) + [1] * (count // 2)
        names[split] = {source[i]["name"] for i in range(count)}
    assert len(names["train"] | names["validation"]) == 10
    notes = _report(root)["notes"]
    assert any("4 of the 10 training videos are 'validation'" in note for note in notes)


def test_a_share_of_a_data_set_with_validation_videos(tmp_path: Path) -> None:
    _videos(tmp_path / "V", "train/run", "val/run", count=2)
    with pytest.raises(UserError, match="validation_share: there is a validation split already"):
        _prepare(tmp_path / "V", validation_share=0.2)


def test_classes_and_files_without_training_videos_are_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "V"
    _videos(root, "train/run", "val/run", "val/swim", count=2)
    (root / "train" / "swim").mkdir()
    (root / "train" / "run" / "notes.txt").write_text("x")
    (root / "top.mp4").write_bytes((tmp_path / "v.mp4").read_bytes())
    prepare_data(DataConfig(source_dir=str(root)), tmp_path / "run", needed=NEEDED)
    told = capfd.readouterr().err
    for line in (
        "no videos of swim",
        "the folder train/swim holds no videos",
        "train/run/notes.txt: not a video (.txt)",
        "top.mp4: lies in no class folder",
        "2 classes, in the order of their names: run, swim",
    ):
        assert line in told
    report = _report(root)
    assert report["splits"]["train"]["classes"]["swim"] == {"found": 0, "used": 0, "left_out": 0}


def test_missing_files_of_a_list_count_by_split(tmp_path: Path) -> None:
    root = tmp_path / "V"
    _videos(root, "clips", count=4)
    (root / "classes.txt").write_text("run\n")
    rows = [f"clips/{i}.mp4,run\n" for i in range(5)]
    (root / "train.csv").write_text("".join(rows[:4]))
    (root / "val.csv").write_text("".join(rows[3:]))
    message = r"1 of 2 videos of validation are missing.*max_missing_share=0\.4.*clips/4\.mp4"
    with pytest.raises(UserError, match=message):
        _prepare(root, max_missing_share=0.4)
    folder = _prepare(root, max_missing_share=0.5)
    assert len(VideoSource(folder, "validation")) == 1
    (left,) = _report(root)["left_out"]
    assert left["name"] == "clips/4.mp4" and left["missing"]


def test_a_frame_rate_needs_videos(tmp_path: Path) -> None:
    root = tmp_path / "F"
    (root / "frames").mkdir(parents=True)
    (root / "classInd.txt").write_text("a\n")
    for split in ("train", "val"):
        (root / f"fcvid_{split}_split.txt").write_text("v,5,0\n")
    data = DataConfig(name="fcvid", source_dir=str(root), frame_rate=2.0)
    with pytest.raises(UserError, match="frame_rate: .*F holds frames, whose rate is not known"):
        prepare_data(data, tmp_path / "run", progress=False)


def test_a_training_says_how_to_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _videos(tmp_path / "V", "run", "jump", count=2)
    flags = ["--config=demo:quick", "--config.data.name=video_folder", "--quiet"]
    with pytest.raises(SystemExit):
        main(
            ["train", *flags, f"--workdir={tmp_path / 'run'}"]
            + [f"--config.data.source_dir={tmp_path / 'V'}"]
        )
    assert "--config.data.validation_share=0.2" in capsys.readouterr().err
