"""Builders and registry: folders of videos and of frames, there and back, bad files included."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ar_net_jax.data import registry
from ar_net_jax.data.embedded.builder import EmbeddedSpec, write_video
from ar_net_jax.data.pipeline import decode_jpegs
from ar_net_jax.errors import UserError


def _write(path: Path, count: int = 12, level: int = 100, size: tuple[int, int] = (48, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.full((count, *size, 3), level, np.uint8)
    write_video(path, frames, fps=4, crf=20)


def _class_folders(root: Path, per_class: int = 2) -> None:
    for split in ("train", "test"):
        for label, name in enumerate(["archery", "bowling club"]):
            for i in range(per_class):
                _write(root / split / name / f"{i}.mp4", level=50 + 100 * label + 10 * i)


def _report(data_dir: Path) -> dict:
    (path,) = data_dir.rglob("report.json")
    return json.loads(path.read_text())


def _prepare(name: str, source: Path, data_dir: Path, **options: object) -> None:
    registry.prepare(name, source_dir=source, data_dir=data_dir, progress=False, **options)


def test_class_folders_round_trip(tmp_path: Path) -> None:
    source, data_dir = tmp_path / "videos", tmp_path / "data"
    _class_folders(source)
    _prepare("video_folder", source, data_dir, frame_rate=2.0, short_side=24)
    train = registry.open_split("video_folder", "train", data_dir=data_dir)
    assert registry.class_names("video_folder", data_dir=data_dir) == ["archery", "bowling club"]
    assert train.class_names == ["archery", "bowling club"] and train.max_labels == 1
    assert [train[i]["name"] for i in range(len(train))] == [
        "train/archery/0.mp4",
        "train/archery/1.mp4",
        "train/bowling club/0.mp4",
        "train/bowling club/1.mp4",
    ]
    example = train[3]
    assert example["labels"].tolist() == [1]
    assert example["num_frames"] == len(example["frames"]) == 6
    assert all(isinstance(frame, bytes) for frame in example["frames"])
    images = decode_jpegs(example["frames"], np.array([0, 5, 5]))
    assert [image.size for image in images] == [(32, 24)] * 3
    assert abs(np.asarray(images[0]).mean() - 160) < 4
    report = _report(data_dir)
    assert report["made_from"] == {
        "data_set": "video_folder",
        "source_dir": str(source),
        "frame_rate": 2.0,
        "short_side": 24,
        "quality": 90,
        "validation_share": 0.0,
    }
    assert report["left_out"] == []
    both = {"found": 2, "used": 2, "left_out": 0}
    assert report["splits"]["train"] == {
        "found": 4,
        "used": 4,
        "left_out": 0,
        "classes": {"archery": both, "bowling club": both},
    }
    assert "tensorflow" not in sys.modules
    with pytest.raises(IndexError):
        train[4]
    with pytest.raises(UserError, match="no split 'dev'"):
        registry.open_split("video_folder", "dev", data_dir=data_dir)


def test_lists_with_several_labels_keep_their_order(tmp_path: Path) -> None:
    source, data_dir = tmp_path / "videos", tmp_path / "data"
    for i in range(3):
        _write(source / "clips" / f"{i}.mp4")
    (source / "classes.txt").write_text("run\njump\nswim\n")
    (source / "train.csv").write_text("clips/2.mp4,swim;run\nclips/0.mp4,jump\n")
    (source / "test.csv").write_text("clips/1.mp4,swim\n")
    _prepare("video_folder", source, data_dir)
    train = registry.open_split("video_folder", "train", data_dir=data_dir)
    assert train.max_labels == 2
    assert [train[i]["name"] for i in range(2)] == ["clips/2.mp4", "clips/0.mp4"]
    assert [train[i]["labels"].tolist() for i in range(2)] == [[2, 0], [1]]


@pytest.mark.parametrize(
    "rows, message",
    [
        ("clips/0.mp4,fly\n", "'fly' is not in classes.txt"),
        ("clips/0.mp4\n", "line 1: expected path,label"),
        ("clips/0.mp4,run\nclips/0.mp4,run\n", "listed twice"),
        ("", "no videos found"),
    ],
)
def test_a_wrong_list_is_an_error(tmp_path: Path, rows: str, message: str) -> None:
    _write(tmp_path / "clips" / "0.mp4")
    (tmp_path / "classes.txt").write_text("run\njump\n")
    (tmp_path / "train.csv").write_text(rows)
    with pytest.raises(UserError, match=message):
        _prepare("video_folder", tmp_path, tmp_path / "data")


def test_a_corrupt_video_is_skipped_and_reported(tmp_path: Path) -> None:
    source, data_dir = tmp_path / "videos", tmp_path / "data"
    _class_folders(source)
    (source / "train" / "archery" / "0.mp4").write_bytes(b"not a video")
    _prepare("video_folder", source, data_dir, max_bad_share=0.2)
    train = registry.open_split("video_folder", "train", data_dir=data_dir)
    assert [train[i]["name"] for i in range(len(train))][0] == "train/archery/1.mp4"
    report = _report(data_dir)
    counts = report["splits"]["train"]
    assert (counts["found"], counts["used"], counts["left_out"]) == (4, 3, 1)
    assert counts["classes"]["archery"] == {"found": 2, "used": 1, "left_out": 1}
    (entry,) = report["left_out"]
    assert entry["split"] == "train" and entry["name"] == "train/archery/0.mp4"
    assert entry["class_name"] == "archery" and entry["bad"]
    assert entry["reason"].startswith("does not decode")


def test_too_many_corrupt_videos_are_an_error(tmp_path: Path) -> None:
    source, data_dir = tmp_path / "videos", tmp_path / "data"
    _class_folders(source)
    (source / "train" / "archery" / "0.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of 8 videos are bad.*max_bad_share=0\.05.*0\.mp4"):
        _prepare("video_folder", source, data_dir)
    with pytest.raises(UserError, match="not prepared"):
        registry.open_split("video_folder", "train", data_dir=data_dir)


def test_an_empty_or_missing_folder_is_an_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="empty: no videos found"):
        _prepare("video_folder", empty, tmp_path / "data")
    with pytest.raises(UserError, match="missing: no such folder"):
        _prepare("video_folder", tmp_path / "missing", tmp_path / "data")


def test_preparing_again_does_nothing_until_something_changes(tmp_path: Path) -> None:
    source, data_dir = tmp_path / "videos", tmp_path / "data"
    _class_folders(source, per_class=1)
    _prepare("video_folder", source, data_dir)
    before = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*array_record*")}
    assert len(before) == 2 + 4, "an index and two frame files for each split"
    _prepare("video_folder", source, data_dir)
    registry.prepare("video_folder", data_dir=data_dir)
    after = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*array_record*")}
    assert after == before

    _write(source / "train" / "archery" / "new.mp4")
    _prepare("video_folder", source, data_dir)
    assert len(registry.open_split("video_folder", "train", data_dir=data_dir)) == 3
    _prepare("video_folder", source, data_dir, frame_rate=1.0)
    train = registry.open_split("video_folder", "train", data_dir=data_dir)
    assert train[0]["num_frames"] == 3


def test_unknown_names_and_options_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'ucf' is unknown; choose from activitynet"):
        _prepare("ucf", tmp_path, tmp_path / "data")
    with pytest.raises(UserError, match="no option 'framerate'"):
        _prepare("video_folder", tmp_path, tmp_path / "data", framerate=3)
    with pytest.raises(UserError, match="give its source folder"):
        registry.prepare("video_folder", data_dir=tmp_path / "data")


def test_the_embedded_set_goes_the_same_way(tmp_path: Path) -> None:
    spec = EmbeddedSpec(train=2, validation=1, test=1)
    registry.prepare("embedded", data_dir=tmp_path, progress=False, spec=spec)
    train = registry.open_split("embedded", "train", data_dir=tmp_path)
    assert len(train) == 2 and train.class_names == list(spec.class_names)
    assert train[0]["num_frames"] == spec.num_frames
    assert train[0]["name"] == "train/00000.mp4"
    (image,) = decode_jpegs(train[0]["frames"], np.array([0]))
    assert image.size == (spec.width, spec.height)


FRAME_FOLDERS = {
    "activitynet": ("actnet_{}_split.txt", "v_a,5,1,0\nv_b,2,0\nv_c,4,2\n", "image_{:05d}.jpg"),
    "fcvid": ("fcvid_{}_split.txt", "v_a,5,1,0\nv_b,2,0\nv_c,4,2\n", "image_{:05d}.jpg"),
    "mini_kinetics": (
        "mini_{}_videofolder.txt",
        "air drumming/v a 5 1\nv_b 2 0\nv_c 4 2\n",
        "{:05d}.jpg",
    ),
}


def _frame_folder(root: Path, name: str) -> list[bytes]:
    lists, rows, frame_name = FRAME_FOLDERS[name]
    stored = []
    first = "air drumming/v a" if name == "mini_kinetics" else "v_a"
    for video, count in ((first, 5), ("v_c", 4)):
        folder = root / "frames" / video
        folder.mkdir(parents=True)
        for i in range(count):
            path = folder / frame_name.format(i + 1)
            Image.new("RGB", (40, 30), (50 * i, 0, 0)).save(path)
            stored.append(path.read_bytes())
    for split in ("train", "val"):
        (root / lists.format(split)).write_text(rows)
    if name != "mini_kinetics":
        (root / "classInd.txt").write_text("a\nb\nc\n")
    return stored


@pytest.mark.parametrize("name", sorted(FRAME_FOLDERS))
def test_frame_folders_are_stored_as_they_are(tmp_path: Path, name: str) -> None:
    stored = _frame_folder(tmp_path / "source", name)
    _prepare(name, tmp_path / "source", tmp_path / "data")
    for split in ("train", "validation"):
        source = registry.open_split(name, split, data_dir=tmp_path / "data")
        # The video of two frames is dropped.
        assert len(source) == 2
        assert list(source[0]["frames"]) == stored[:5]
        assert list(source[1]["frames"]) == stored[5:]
        expected = [1] if name == "mini_kinetics" else [0, 1]
        assert source[0]["labels"].tolist() == expected
    assert source[0]["name"] == ("air drumming/v a" if name == "mini_kinetics" else "v_a")
    assert len(source.class_names) == (200 if name == "mini_kinetics" else 3)


def test_frame_folders_can_be_thinned_and_shrunk(tmp_path: Path) -> None:
    _frame_folder(tmp_path / "source", "fcvid")
    _prepare("fcvid", tmp_path / "source", tmp_path / "data", stride=2, short_side=15)
    source = registry.open_split("fcvid", "train", data_dir=tmp_path / "data")
    images = decode_jpegs(source[0]["frames"], np.arange(3))
    assert source[0]["num_frames"] == 3
    assert [image.size for image in images] == [(20, 15)] * 3
    assert abs(int(np.asarray(images[1])[0, 0, 0]) - 100) < 4


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_bad_frame_makes_the_video_bad(tmp_path: Path, damage: str) -> None:
    _frame_folder(tmp_path / "source", "activitynet")
    frame = tmp_path / "source" / "frames" / "v_c" / "image_00003.jpg"
    if damage == "missing":
        frame.unlink()
    else:
        frame.write_bytes(frame.read_bytes()[:-200])
    with pytest.raises(UserError, match="image_00003.jpg"):
        _prepare("activitynet", tmp_path / "source", tmp_path / "data")
    _prepare("activitynet", tmp_path / "source", tmp_path / "data", max_bad_share=0.5)
    assert len(registry.open_split("activitynet", "train", data_dir=tmp_path / "data")) == 1
    bad = [entry for entry in _report(tmp_path / "data")["left_out"] if entry["bad"]]
    assert [entry["name"] for entry in bad] == ["v_c", "v_c"]


def test_wrong_rows_and_labels_of_a_split_list(tmp_path: Path) -> None:
    _frame_folder(tmp_path, "fcvid")
    (tmp_path / "fcvid_val_split.txt").write_text("v_a,5,9\n")
    with pytest.raises(UserError, match=r"fcvid_val_split.txt, line 1: labels must be in 0\.\.2"):
        _prepare("fcvid", tmp_path, tmp_path / "data")
    (tmp_path / "fcvid_val_split.txt").write_text("v_a 5 1\n")
    with pytest.raises(UserError, match="line 1: expected name, number of frames"):
        _prepare("fcvid", tmp_path, tmp_path / "data")
