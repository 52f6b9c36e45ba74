"""A run holds together: it goes on with its own data alone, and leaves the user's folders alone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ar_net_jax
from ar_net_jax.config.data import DataConfig, EmbeddedConfig
from ar_net_jax.data import registry
from ar_net_jax.data.embedded import builder as embedded
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.data.nearby import embedded_nearby
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import data_home, prepare_data, with_absolute_paths
from ar_net_jax.demo import run as demo
from ar_net_jax.demo.plan import Plan
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.training import loop
from ar_net_jax.training.record import begin, check_config, take_classes_for_run
from ar_net_jax.training.run import run_training

NAMES = ("blue", "green", "red")
TINY = EmbeddedSpec(train=2, validation=1, test=1)


class Started(Exception):
    """Stands for a training that has got as far as its first stage."""


def _write_videos(folder: Path) -> None:
    """Two videos a class in each split, listed, with `classes.txt`."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    (folder / "classes.txt").write_text("\n".join(NAMES))
    for split in ("train", "validation"):
        rows = []
        for i in range(6):
            frames = rng.integers(0, 256, (3 + i, 32, 40, 3), np.uint8)
            write_video(folder / f"{split}_{i}.mp4", frames, fps=4, crf=30)
            rows.append(f"{split}_{i}.mp4,{NAMES[i % 3]}")
        (folder / f"{split}.csv").write_text("\n".join(rows))


def _config(source: Path | str, **changes: object) -> Config:
    return Config.from_dict(
        {
            "method": "uniform",
            "model": {"resolution": 16, "backbone": "resnet8_tiny"},
            "data": {
                "name": "video_folder",
                "source_dir": str(source),
                "num_frames": 2,
                "batch_size": 4,
                "eval_batch_size": 4,
                "num_threads": 1,
            },
            "stage_order": ("joint",),
            "stages": {"joint": {"epochs": 1}},
            **changes,
        }
    )


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[[Config, Path], None]:
    """Runs a training up to its first stage."""

    def stop(*_: object) -> None:
        raise Started

    monkeypatch.setattr(loop, "run_stage", stop)

    def start(config: Config, workdir: Path) -> None:
        with pytest.raises(Started):
            run_training(config, workdir, progress=False)

    return start


def _contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def _reorder(source: Path) -> None:
    (source / "classes.txt").write_text("\n".join(NAMES[::-1]))


def _rename_class(source: Path) -> None:
    for path in (source / "classes.txt", *source.glob("*.csv")):
        path.write_text(path.read_text().replace("blue", "sky"))


def _relabel(source: Path) -> None:
    rows = (source / "train.csv").read_text().replace("train_0.mp4,blue", "train_0.mp4,red")
    (source / "train.csv").write_text(rows)


def _swap(source: Path) -> None:
    (source / "train_0.mp4").rename(source / "hold")
    (source / "train_3.mp4").rename(source / "train_0.mp4")
    (source / "hold").rename(source / "train_3.mp4")


def _replace(source: Path) -> None:
    """Other frames, as many as before."""
    frames = np.zeros((3, 32, 40, 3), np.uint8)
    write_video(source / "train_0.mp4", frames, fps=4, crf=30)


def _leave_one_out(source: Path) -> None:
    rows = (source / "validation.csv").read_text().splitlines()
    (source / "validation.csv").write_text("\n".join(rows[1:]))


CHANGES = {
    _reorder: r"run on other classes \(another order: class 0 was 'blue', is 'red'\)",
    _rename_class: r"run on other classes \(gone: blue; new: sky\)",
    _relabel: r"other videos than those of split 'train' \(other labels\)",
    _swap: r"other videos than those of split 'train' \(other frames\)",
    _replace: r"other videos than those of split 'train' \(other frames\)",
    _leave_one_out: r"split 'validation' \(6 videos then, 5 now\)",
}


def test_a_run_goes_on_with_its_own_data_alone(
    tmp_path: Path, start: Callable[[Config, Path], None]
) -> None:
    source, run = tmp_path / "V", tmp_path / "run"
    _write_videos(source)
    start(_config(source), run)
    recorded = json.loads((run / "config.json").read_text())
    assert recorded["class_names"] == list(NAMES) and recorded["model"]["num_classes"] == 3
    kept = tmp_path / "kept"
    source.rename(kept)
    for change, message in CHANGES.items():
        shutil.copytree(kept, source)
        change(source)
        with pytest.raises(UserError, match=message):
            run_training(_config(source), run, progress=False)
        shutil.rmtree(source)
    # A copy is the same data.
    shutil.copytree(kept, source)
    start(_config(source), run)


def test_a_run_of_an_earlier_version_goes_on(
    tmp_path: Path, start: Callable[[Config, Path], None]
) -> None:
    source, run = tmp_path / "V", tmp_path / "run"
    _write_videos(source)
    # It took any number of outputs from that of the classes on, and kept no names.
    wide = _config(source, model={"num_classes": 5, "resolution": 16, "backbone": "resnet8_tiny"})
    values = wide.to_dict()
    del values["class_names"], values["data"]["embedded"]
    run.mkdir()
    (run / "config.json").write_text(json.dumps(values))
    start(wide, run)
    assert json.loads((run / "data.json").read_text())["splits"]["train"]["videos"] == 6
    with pytest.raises(UserError, match="num_classes: 5, but .* has 3 classes"):
        run_training(wide, tmp_path / "new", progress=False)


def test_a_run_goes_on_where_its_sources_have_moved(
    tmp_path: Path, start: Callable[[Config, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "elsewhere").mkdir()
    _write_videos(tmp_path / "work" / "V")
    run = tmp_path / "run"
    monkeypatch.chdir(tmp_path / "work")
    start(_config("V"), run)
    recorded = json.loads((run / "config.json").read_text())["data"]["source_dir"]
    assert recorded == str(tmp_path / "work" / "V")
    assert json.loads((run / "data.json").read_text())["source_dir"] == recorded
    # As the run has recorded it, from another folder; then with the sources gone.
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = _contents(run / "data")
    start(_config(recorded), run)
    (tmp_path / "work" / "V").rename(tmp_path / "W")
    start(_config(recorded), run)
    start(_config(tmp_path / "W"), run)
    after = _contents(run / "data")
    assert {name for name in after if name.endswith("array_record")} == {
        name for name in before if name.endswith("array_record")
    }
    with pytest.raises(UserError, match="no such folder"):
        run_training(_config("V"), run, progress=False)


@pytest.mark.parametrize("name", ["embedded", "video_folder"])
def test_nothing_is_written_into_the_users_folder(tmp_path: Path, name: str) -> None:
    source = tmp_path / "V"
    _write_videos(source)
    before = _contents(source)
    values = _config(source).to_dict()
    values["data"]["name"] = name
    config = Config.from_dict(values)
    if name == "embedded":
        with pytest.raises(UserError, match="--config.data.name=video_folder"):
            run_training(config, tmp_path / "run", progress=False)
        with pytest.raises(UserError, match="'embedded' is drawn"):
            registry.prepare("embedded", data_dir=tmp_path / "data", source_dir=source)
        assert not (tmp_path / "run" / "data").exists()
    else:
        for workdir in (source, source / "run"):
            with pytest.raises(UserError, match="lies in config.data.source_dir"):
                run_training(config, workdir, progress=False)
        prepare_data(config.data, data_home(config.data, tmp_path / "run"), progress=False)
    kept = {key: value for key, value in _contents(source).items() if "compiled" not in key}
    assert {key for key in kept if key != "run"} == set(before)
    assert all(kept[key] == before[key] for key in before)


# --- The embedded data set ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few embedded videos, where a demo keeps them."""
    home = tmp_path_factory.mktemp("demo")
    embedded.make(home / "data" / "videos", TINY, progress=False)
    return home


def test_embedded_videos_are_never_drawn_over_those_of_another_spec(drawn: Path) -> None:
    videos = drawn / "data" / "videos"
    before = _contents(videos)
    with pytest.raises(UserError, match=r"another spec \(train 2 there, 3 asked for\)"):
        embedded.make(videos, replace(TINY, train=3), progress=False)
    embedded.make(videos, None, progress=False)
    assert _contents(videos) == before
    assert embedded.drawn_spec(videos) == TINY


def test_an_interrupted_drawing_goes_on_with_its_own_spec(drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn / "data" / "videos", tmp_path / "videos")
    (tmp_path / "videos" / "finished.json").rename(tmp_path / "videos" / "unfinished.json")
    assert embedded.drawn_spec(tmp_path / "videos") == TINY
    embedded.make(tmp_path / "videos", None, progress=False)
    assert len(list((tmp_path / "videos" / "train").glob("*.mp4"))) == TINY.train


def test_a_demos_model_finds_its_own_videos(drawn: Path, tmp_path: Path) -> None:
    data = DataConfig(name="embedded", embedded=EmbeddedConfig(train=2, validation=1, test=1))
    run = drawn / "ar_net"
    assert embedded_nearby(data, tmp_path / "ar_net") is None
    assert embedded_nearby(data, run) == drawn / "data"
    # Of a model that says nothing, what is there; of one of other videos, nothing.
    assert embedded_nearby(replace(data, embedded=EmbeddedConfig()), run) == drawn / "data"
    assert embedded_nearby(replace(data, embedded=EmbeddedConfig(train=3)), run) is None
    before = _contents(drawn / "data" / "videos")
    given = replace(data, data_dir=str(drawn / "data"))
    prepared = prepare_data(given, data_home(given, run), progress=False)
    assert len(VideoSource(prepared, "train")) == 2
    assert _contents(drawn / "data" / "videos") == before


@pytest.mark.parametrize("first", [True, False])
def test_a_demo_over_another_demo_is_refused_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("data was touched")

    monkeypatch.setattr(demo, "prepare_data", refuse)
    for name, config in Plan(tmp_path, quick=first).configs(["--config.seed=0"]).items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config.to_dict()))
    with pytest.raises(
        UserError, match=r"config \(different: data\.embedded\.test was \d+, is \d+, "
    ):
        demo.run_demo(tmp_path, quick=not first, progress=False)
    with pytest.raises(AssertionError, match="data was touched"):
        demo.run_demo(tmp_path, quick=first, progress=False)


@pytest.mark.slow
def test_a_quick_demos_model_is_judged_on_its_own_videos(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(ar_net_jax.__file__).parents[1]),
        "JAX_PLATFORMS": "cpu",
    }

    def arnet(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ar_net_jax", *flags, "--quiet"]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    home = tmp_path / "demo"
    ran = arnet("demo", "--quick", f"--workdir={home}")
    assert ran.returncode == 0, ran.stderr
    table = json.loads((home / "results.json").read_text())["results"][0]
    videos = _contents(home / "data" / "videos")
    for flags in ([], [f"--config.data.data_dir={home / 'data'}"]):
        ran = arnet("evaluate", f"--workdir={home / 'ar_net'}", *flags)
        assert ran.returncode == 0, ran.stderr
        found = json.loads((home / "ar_net" / "evaluation_test.json").read_text())["results"][0]
        assert (found["mAP"], found["num_videos"]) == (table["mAP"], 32)
    assert not (home / "ar_net" / "data").exists()
    ran = arnet("demo", f"--workdir={home}")
    assert ran.returncode == 1 and "another config" in ran.stderr
    assert _contents(home / "data" / "videos") == videos
    # Copied away, it has its videos drawn again.
    shutil.copytree(home / "ar_net" / "model", tmp_path / "away" / "model")
    ran = arnet("evaluate", f"--workdir={tmp_path / 'away'}")
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "away" / "evaluation_test.json").read_text())["results"][0]
    assert found["num_videos"] == 32
    assert found["mAP"] == pytest.approx(table["mAP"], abs=2), "x264 may choose other bytes"


def test_paths_are_recorded_as_absolute_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = with_absolute_paths(DataConfig(source_dir="V", data_dir="../D"))
    assert (data.source_dir, data.data_dir) == (f"{tmp_path}/V", f"{tmp_path}/../D")
    assert with_absolute_paths(DataConfig()) == DataConfig()


class _Split:
    """A split without videos."""

    identity = "0"

    def __init__(self, split: str) -> None:
        self.split = split

    def __len__(self) -> int:
        return 0


def test_a_record_that_another_process_does_not_see_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = take_classes_for_run(_config(""), tmp_path / "run", NAMES, "the data")
    monkeypatch.setattr("ar_net_jax.training.record.is_first", lambda: False)
    with pytest.raises(UserError, match="that all processes share"):
        begin(config, tmp_path / "run", _Split("train"), _Split("validation"))


def test_how_many_videos_may_be_missing_may_change_within_a_run(tmp_path: Path) -> None:
    config = load_config("video_folder:uniform")
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    allowing = replace(config.data, max_missing_share=0.5)
    check_config(replace(config, data=allowing), tmp_path)
    other = replace(config.data, num_frames=8)
    # As does how often it reports and saves.
    check_config(replace(config, log_every=1, checkpoint_every_steps=7), tmp_path)
    was = config.data.num_frames
    told = rf"\(different: data.num_frames was {was}, is 8, seed was 0, is 3\)"
    with pytest.raises(UserError, match=told):
        check_config(replace(config, data=other, seed=3), tmp_path)
