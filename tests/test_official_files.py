"""The paper's data sets from small fakes of their official files, with videos that are gone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ar_net_jax.data import registry
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.data.listing.catalogue import Catalogue
from ar_net_jax.data.listing.official_files import read_activitynet, read_fcvid, read_kinetics
from ar_net_jax.errors import UserError


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Four seconds of two frames each."""
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    write_video(path, np.full((8, 48, 64, 3), 100, np.uint8), fps=2, crf=30)
    return path.read_bytes()


def _put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _catalogue(name: str, root: Path) -> Catalogue:
    builder = registry._load_builder(name)
    config = builder.CONFIG(name="test", source_dir=str(root))
    return builder(data_dir=root.parent / "data", config=config).read_source()


def _prepare(name: str, root: Path, **options: Any) -> Path:
    data_dir = root.parent / "data"
    registry.prepare(name, source_dir=root, data_dir=data_dir, progress=False, **options)
    return data_dir


def _stored(name: str, split: str, data_dir: Path) -> dict[str, tuple[list[str], int]]:
    """Labels by name, the main one first, and frames, of each stored video."""
    source = registry.open_split(name, split, data_dir=data_dir)
    return {
        example["name"]: (
            [source.class_names[label] for label in example["labels"]],
            len(example["frames"]),
        )
        for example in (source[i] for i in range(len(source)))
    }


def _report(data_dir: Path) -> str:
    (path,) = data_dir.rglob("report.json")
    return path.read_text()


# ActivityNet


def _activitynet(root: Path, video: bytes) -> None:
    """Four videos of each split that has labels, the last of which is gone, and one of testing."""

    def annotations(*spans: tuple[str, float, float]) -> list[dict[str, Any]]:
        return [{"label": label, "segment": [start, end]} for label, start, end in spans]

    database: dict[str, Any] = {"-_test0000x": {"subset": "testing", "annotations": []}}
    for i in range(4):
        database[f"-a_{i}bcdefgh"] = {
            "subset": "training",
            "annotations": annotations(("Polishing shoes", 0, 9), ("BMX", 0, 5), ("BMX", 5, 10)),
        }
        database[f"_b-{i}bcdefgh"] = {
            "subset": "validation",
            "annotations": annotations(("Archery", 1.5, 2.5)),
        }
    for video_id, entry in database.items():
        entry.update(duration=4.0, resolution="64x48", url=f"https://example.org/{video_id}")
    document = {"version": "VERSION 1.3", "taxonomy": [], "database": database}
    _put(root / "activity_net.v1-3.min.json", json.dumps(document))
    suffixes = {0: "mp4", 1: "mkv", 2: "webm"}
    for i, suffix in suffixes.items():
        _put(root / "videos" / f"v_-a_{i}bcdefgh.{suffix}", video)
        _put(root / "Anet_videos_15fps" / "val" / f"v__b-{i}bcdefgh.{suffix}", video)
    _put(root / "videos" / "v_unlisted000.mp4", video)
    _put(root / "README.md", "hello")


def test_activitynet(tmp_path: Path, video: bytes) -> None:
    root = tmp_path / "source"
    _activitynet(root, video)
    catalogue = _catalogue("activitynet", root)
    assert catalogue.classes == ["Archery", "BMX", "Polishing shoes"]
    assert catalogue.notes == [
        "videos as listed in activity_net.v1-3.min.json",
        "1 test videos without labels are not taken",
        "3 classes, in the order of their names: Archery, BMX, Polishing shoes",
    ]
    gone = {(left.split, left.name): left for left in catalogue.left_out if left.missing}
    assert gone.keys() == {("train", "v_-a_3bcdefgh"), ("validation", "v__b-3bcdefgh")}
    assert gone["train", "v_-a_3bcdefgh"].class_name == "BMX"
    others = {left.name: left.reason for left in catalogue.left_out if not left.missing}
    assert others == {"videos/v_unlisted000.mp4": "in no list", "README.md": "not a video (.md)"}


def test_activitynet_is_prepared_without_what_is_gone_or_broken(
    tmp_path: Path, video: bytes
) -> None:
    root = tmp_path / "source"
    _activitynet(root, video)
    _put(root / "classInd.txt", "0,Polishing shoes\n1,BMX\n2,Archery\n")
    with pytest.raises(UserError, match=r"1 of 4 .*train are missing.*max_missing_share=0\.25$"):
        _prepare("activitynet", root)
    _put(root / "videos" / "v_-a_1bcdefgh.mkv", b"broken")
    with pytest.raises(UserError, match="max_bad_share"):
        _prepare("activitynet", root, max_missing_share=0.25)
    data_dir = _prepare("activitynet", root, max_missing_share=0.25, max_bad_share=0.4)
    labels = ["BMX", "Polishing shoes"]  # Ten annotated seconds, and nine.
    assert _stored("activitynet", "train", data_dir) == {
        "v_-a_0bcdefgh": (labels, 8),
        "v_-a_2bcdefgh": (labels, 8),
    }
    assert list(_stored("activitynet", "validation", data_dir)) == [
        f"v__b-{i}bcdefgh" for i in range(3)
    ]
    source = registry.open_split("activitynet", "train", data_dir=data_dir)
    assert source.class_names == ["Polishing shoes", "BMX", "Archery"]
    report = _report(data_dir)
    for name in ("v_-a_3bcdefgh", "v__b-3bcdefgh", "v_-a_1bcdefgh", "v_unlisted000.mp4"):
        assert name in report


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "not a file of ActivityNet"),
        ("[]", "not a file of ActivityNet"),
        ('{"database": []}', "not a file of ActivityNet"),
        ('{"database": {"x": {"subset": "training"}}}', "KeyError: 'annotations'"),
        ('{"database": {"x": {"subset": "new", "annotations": []}}}', "subset 'new' of x"),
        ('{"database": {"x": {"subset": "validation", "annotations": [{}]}}}', "'segment'"),
    ],
)
def test_no_file_of_activitynet(tmp_path: Path, content: str, message: str) -> None:
    _put(tmp_path / "a.json", content)
    with pytest.raises(UserError, match=message):
        read_activitynet(tmp_path / "a.json")


def test_a_list_of_classes_that_does_not_fit(tmp_path: Path, video: bytes) -> None:
    _activitynet(tmp_path, video)
    _put(tmp_path / "classes.txt", "Archery\nBMX\nPolishing shoes\nYoga\n")
    with pytest.raises(UserError, match="names Yoga, which no video has"):
        _catalogue("activitynet", tmp_path)
    _put(tmp_path / "classes.txt", "Archery\nBMX\n")
    with pytest.raises(UserError, match="labelled Polishing shoes, which the list of classes lack"):
        _catalogue("activitynet", tmp_path)


# Kinetics

KINETICS = "label,youtube_id,time_start,time_end,split\n"
TRAIN = KINETICS + (
    "riding a bike,-0_abcdefgh,7,17,train\n"
    '"hurling (sport)",__-bcdefghi,1772,1782,train\n'
    '"massaging person\'s head",abcdefghijk,0,10,train\n'
    "riding a bike,gone0000000,3,13,train\n"
    '"passing, not in game",abcdefghijk,20,30,train\n'
)
VALIDATE = KINETICS + "hurling (sport),-1_abcdefgh,0,10,validate\nyoga,-2_abcdefgh,0,10,validate\n"


def _kinetics(root: Path, video: bytes) -> None:
    _put(root / "annotations" / "train.csv", TRAIN)
    _put(root / "annotations" / "validate.csv", VALIDATE)
    _put(root / "annotations" / "test.csv", "youtube_id,time_start,time_end,split\nx,0,1,test\n")
    for name in (
        "train/riding a bike/-0_abcdefgh_000007_000017.mp4",
        "train/hurling_(sport)/__-bcdefghi_001772_001782.mkv",
        "k400/flat/abcdefghijk_000000_000010.mp4",
        "k400/flat/abcdefghijk_000020_000030.mp4",
        "val/hurling (sport)/-1_abcdefgh_000000_000010.mp4",
        "val/yoga/-2_abcdefgh_000000_000010.mp4",
    ):
        _put(root / name, video)


def test_mini_kinetics_are_the_classes_that_the_user_names(tmp_path: Path, video: bytes) -> None:
    root = tmp_path / "source"
    _kinetics(root, video)
    _put(root / "classes.txt", "riding a bike\nhurling (sport)\n")
    catalogue = _catalogue("mini_kinetics", root)
    assert catalogue.classes == ["riding a bike", "hurling (sport)"]
    assert "2 train videos of other classes are not taken" in catalogue.notes
    assert "1 validation videos of other classes are not taken" in catalogue.notes
    assert "1 test videos without labels are not taken" in catalogue.notes
    (left,) = catalogue.left_out
    assert (left.split, left.name, left.missing) == ("train", "gone0000000_000003_000013", True)
    data_dir = _prepare("mini_kinetics", root, max_missing_share=0.5)
    assert _stored("mini_kinetics", "train", data_dir) == {
        "-0_abcdefgh_000007_000017": (["riding a bike"], 8),
        "__-bcdefghi_001772_001782": (["hurling (sport)"], 8),
    }
    assert _stored("mini_kinetics", "validation", data_dir) == {
        "-1_abcdefgh_000000_000010": (["hurling (sport)"], 8)
    }


def test_without_a_list_all_classes_of_kinetics_are_taken(tmp_path: Path, video: bytes) -> None:
    _kinetics(tmp_path, video)
    catalogue = _catalogue("mini_kinetics", tmp_path)
    assert catalogue.classes == [
        "hurling (sport)",
        "massaging person's head",
        "passing, not in game",
        "riding a bike",
        "yoga",
    ]
    assert [video.name for video in catalogue.splits["train"]][2:] == [
        "abcdefghijk_000000_000010",
        "abcdefghijk_000020_000030",
    ]


def test_columns_and_splits_of_kinetics_lists(tmp_path: Path) -> None:
    path = tmp_path / "kinetics_val.csv"
    _put(path, "\ufefflabel,youtube_id,time_start,time_end\r\nyoga,-a,1.0,11.0\r\n")
    (entry,) = read_kinetics(path)
    assert entry.split == "validation" and entry.stem == "-a_000001_000011"
    _put(path, "youtube_id,time_start\nx,1\n")
    with pytest.raises(UserError, match="no column 'time_end'"):
        read_kinetics(path)
    _put(path, KINETICS + "yoga,-a,one,11,val\n")
    with pytest.raises(UserError, match=r"kinetics_val\.csv, line 2: expected label,youtube_id"):
        read_kinetics(path)
    path = tmp_path / "k.csv"
    _put(path, "label,youtube_id,time_start,time_end\nyoga,-a,1,11\n")
    with pytest.raises(UserError, match="has no column 'split'"):
        read_kinetics(path)


# FCVID


def _fcvid(folder: Path) -> None:
    rows = ["dog/-a_1.mp4 train", "dog/b.mp4\ttrain", "cat/a.mp4 train", "cat/gone.flv test"]
    labels = ["1\t0\t1", "1\t0\t0", "0\t1\t0", "0\t1\t0"]
    rows.append("cat/b.mp4 test")
    labels.append("0\t1\t0")
    _put(folder / "FCVID_VideoName_TrainTestSplit.txt", "\r\n".join(rows) + "\r\n")
    _put(folder / "FCVID_Label.txt", "\n".join(labels) + "\n")


@pytest.mark.parametrize("place", [".", "materials"])
def test_fcvid(tmp_path: Path, video: bytes, place: str) -> None:
    root = tmp_path / "source"
    _fcvid(root / place)
    for name in ("dog/-a_1.mp4", "dog/b.webm", "cat/a.mp4", "cat/b.mp4"):
        _put(root / "videos" / name, video)
    _put(root / "classes.txt", "dog\ncat\npuppy\n")
    data_dir = _prepare("fcvid", root, max_missing_share=0.5)
    # One frame a second.
    assert _stored("fcvid", "train", data_dir) == {
        "dog/-a_1": (["dog", "puppy"], 4),
        "dog/b": (["dog"], 4),
        "cat/a": (["cat"], 4),
    }
    assert _stored("fcvid", "validation", data_dir) == {"cat/b": (["cat"], 4)}
    assert "cat/gone" in _report(data_dir)


def test_fcvid_without_names_of_classes(tmp_path: Path) -> None:
    _fcvid(tmp_path)
    catalogue = _catalogue("fcvid", tmp_path)
    assert catalogue.classes == ["0", "1", "2"]
    assert "3 classes, in the order of their numbers: 0, 1, 2" in catalogue.notes
    _put(tmp_path / "classes.txt", "dog\ncat\n")
    with pytest.raises(UserError, match="has 2 names, but .* 3 columns"):
        _catalogue("fcvid", tmp_path)


@pytest.mark.parametrize(
    "rows, labels, message",
    [
        ("a.mp4 train\n", "1 0\n0 1\n", "has 1 rows, but .* has 2"),
        ("a.mp4 third\n", "1 0\n", "line 1: expected the path of a video, train or test"),
        ("train\n", "1 0\n", "line 1: expected the path of a video"),
        ("a.mp4 train\nb.mp4 test\n", "1 0\n1\n", "line 2: expected 2 columns of 0 or 1"),
        ("a.mp4 train\n", "1 x\n", "line 1: expected 2 columns"),
    ],
)
def test_files_of_fcvid_that_do_not_fit(
    tmp_path: Path, rows: str, labels: str, message: str
) -> None:
    _put(tmp_path / "s.txt", rows)
    _put(tmp_path / "l.txt", labels)
    with pytest.raises(UserError, match=message):
        read_fcvid(tmp_path / "s.txt", tmp_path / "l.txt", None)


# All of them


@pytest.mark.parametrize("name", ["activitynet", "fcvid", "mini_kinetics"])
def test_a_folder_of_neither_form_says_what_is_expected(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"neither the lists of the released code \(.*\) nor .*\."):
        _catalogue(name, tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        _catalogue(name, tmp_path / "none")


def test_frames_go_before_official_files(tmp_path: Path, video: bytes) -> None:
    _activitynet(tmp_path, video)
    _put(tmp_path / "classInd.txt", "0,Archery\n1,BMX\n2,Polishing shoes\n")
    for split in ("train", "val"):
        _put(tmp_path / f"actnet_{split}_split.txt", "v_a,5,2,0\nv_gone,5,1\nv_b,2,0\n")
    assert len(_catalogue("activitynet", tmp_path).splits["train"]) == 3
    (tmp_path / "frames" / "v_a").mkdir(parents=True)
    catalogue = _catalogue("activitynet", tmp_path)
    assert catalogue.classes == ["Archery", "BMX", "Polishing shoes"]
    assert [(v.name, v.labels) for v in catalogue.splits["train"]] == [("v_a", (0, 2))]
    reasons = {left.name: (left.reason, left.missing) for left in catalogue.left_out}
    assert reasons == {
        "v_gone": ("no folder of its frames", True),
        "v_b": ("fewer than 3 frames", False),
    }
