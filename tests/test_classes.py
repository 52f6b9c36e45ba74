"""Class names belong to the model: they travel with it, and data is matched to it by them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import ar_net_jax
from ar_net_jax.checkpoints import save_model
from ar_net_jax.cli.main import main
from ar_net_jax.config.model import NOMINAL_CLASSES
from ar_net_jax.data.classes import read_class_names, take_classes
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.errors import UserError
from ar_net_jax.evaluation.run import evaluate_workdir
from ar_net_jax.experiment import Config, load_config, with_classes
from ar_net_jax.training.run import run_training
from ar_net_jax.weights.export import load_safetensors

NAMES = ("blue", "green", "red")
CONFIG = Config.from_dict(
    {
        "method": "uniform",
        "model": {"num_classes": 3, "resolution": 16, "backbone": "resnet8_tiny"},
        "data": {"num_frames": 2, "eval_batch_size": 6, "num_threads": 1},
    }
)
NAMED = with_classes(CONFIG, NAMES)


def _save(folder: Path, config: Config) -> Path:
    """A model with random weights."""
    rng = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        values = rng.normal(0, 0.3, leaf.shape) if leaf.ndim > 1 else rng.random(leaf.shape) + 0.5
        return values.astype(leaf.dtype)

    shapes = config.build_method().variable_shapes()
    save_model(folder / "model", jax.tree.map(draw, shapes), config.to_dict())
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos, two a class, which a random model tells apart somehow."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(1)
    for i in range(6):
        frames = np.repeat(rng.integers(0, 256, (4, 4, 5, 3), np.uint8), 8, 1).repeat(8, 2)
        write_video(folder / f"{i}.mp4", frames, fps=4, crf=20)
    return folder


@pytest.fixture
def listed(clips: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of these videos with the classes in a given order."""

    def make(name: str, classes: tuple[str, ...], of: tuple[str, ...] = NAMES) -> Path:
        folder = tmp_path / name
        shutil.copytree(clips, folder)
        rows = [f"{i}.mp4,{of[i // 2]}" for i in range(6) if of[i // 2] in classes]
        (folder / "test.csv").write_text("\n".join(rows))
        (folder / "classes.txt").write_text("\n".join(classes))
        return folder

    return make


def _evaluate(run: Path, source: Path, **how: Any) -> dict[str, Any]:
    overrides = ["--config.data.name=video_folder", f"--config.data.source_dir={source}"]
    found = evaluate_workdir(run, overrides=overrides, progress=False, **how)
    return found.to_json()["results"][0]


def test_the_order_of_a_data_sets_classes_does_not_matter(
    listed: Callable[..., Path], tmp_path: Path
) -> None:
    run = _save(tmp_path / "run", NAMED)
    same = _evaluate(run, listed("same", NAMES))
    other = listed("other", NAMES[::-1])
    assert _evaluate(run, other) == same
    assert _evaluate(run, other, classes="by_index") != same, "or the figures show nothing"
    few = _evaluate(run, listed("few", ("red", "blue")))
    assert few["num_videos"] == 4


def test_classes_that_the_model_does_not_know_are_named_before_anything_is_decoded(
    listed: Callable[..., Path], tmp_path: Path
) -> None:
    run = _save(tmp_path / "run", NAMED)
    names = ("green", "red", "sky")
    with pytest.raises(UserError, match=r"does not know 1 of its 3 classes: sky; it knows blue"):
        _evaluate(run, listed("unknown", names, of=("sky", "green", "red")))
    assert not (run / "data").exists()


def test_a_model_without_names_is_evaluated_by_index_only_where_that_is_said(
    listed: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, source = _save(tmp_path / "run", CONFIG), listed("same", NAMES)
    with pytest.raises(UserError, match=r"convert MODEL --classes=FILE.*--classes=by_index"):
        _evaluate(run, source)
    assert not (run / "data").exists()
    flags = ["--config.data.name=video_folder", f"--config.data.source_dir={source}", "--quiet"]
    main(["evaluate", f"--workdir={run}", *flags, "--classes=by_index"])
    assert "class k of the data set was taken for output k" in capsys.readouterr().out
    (figures,) = run.glob("evaluation_test*classes=by_index*.json")
    by_index = json.loads(figures.read_text())
    assert by_index["classes"] == "by_index"
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    main(["convert", str(run), f"--classes={tmp_path / 'names.txt'}", f"--to={run / 'model'}"])
    assert _evaluate(run, source) == by_index["results"][0]
    many = listed("many", (*NAMES, "sky"))
    with pytest.raises(UserError, match="4 classes, but the model 3 outputs"):
        _evaluate(run, many, classes="by_index")


def test_names_travel_with_the_model(tmp_path: Path) -> None:
    run = _save(tmp_path / "run", NAMED)
    shutil.copytree(run / "model", tmp_path / "far" / "away")
    main(["convert", str(tmp_path / "far" / "away"), f"--to={tmp_path / 'x.safetensors'}"])
    assert load_safetensors(tmp_path / "x.safetensors")[0].class_names == NAMES
    main(["convert", str(tmp_path / "x.safetensors"), f"--to={tmp_path / 'back'}"])
    assert ar_net_jax.load(tmp_path / "back").config.class_names == NAMES
    out = tmp_path / "m.stablehlo"
    main(["export", f"--workdir={tmp_path / 'back'}", f"--output={out}", "--platforms=cpu"])
    assert json.loads(Path(f"{out}.json").read_text())["classes"] == list(NAMES)


def test_a_model_of_an_earlier_version_loads(tmp_path: Path) -> None:
    run = _save(tmp_path / "run", CONFIG)
    values = CONFIG.to_dict()
    del values["class_names"], values["data"]["embedded"]
    (run / "model" / "config.json").write_text(json.dumps(values))
    assert ar_net_jax.load(run).config == CONFIG


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"blue\ngreen\n", "2 names, but the model has 3 outputs"),
        (b"blue\nblue\nred\n", "names blue twice"),
        (b"bl\xfc\ngreen\nred\n", "line 1: not UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_of_names_is_refused_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: bytes | None, message: str
) -> None:
    run, file = _save(tmp_path / "run", CONFIG), tmp_path / "names.txt"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(SystemExit):
        main(["convert", str(run), f"--classes={file}", f"--to={tmp_path / 'named'}"])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "named").exists()


def test_files_of_names_may_come_from_windows(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes(b"\xef\xbb\xbfblue\r\n\r\n deep green \r\nred")
    assert read_class_names(file, 3) == ["blue", "deep green", "red"]


def test_names_are_spelled_as_a_data_set_spells_them(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("cafe\u0301\nred\n", encoding="utf-8")
    assert read_class_names(file, 2) == ["caf\u00e9", "red"], "an accent is part of its letter"


def test_the_number_of_classes_follows_from_the_data() -> None:
    config = load_config("video_folder:uniform")
    assert config.model.num_classes == 0
    taken = take_classes(config, NAMES, "V")
    assert taken.model.num_classes == 3 and taken.class_names == NAMES
    assert take_classes(taken, NAMES, "V") == taken
    with pytest.raises(UserError, match="another order: class 0 was 'blue', is 'red'"):
        take_classes(taken, NAMES[::-1], "V")
    with pytest.raises(UserError, match="V has one class"):
        take_classes(config, NAMES[:1], "V")
    for paper, number in {"activitynet": 200, "fcvid": 239, "mini_kinetics": 200}.items():
        assert load_config(paper).model.num_classes == number


@pytest.mark.parametrize("number", [2, 4])
def test_a_contradiction_is_told_before_anything_is_decoded(
    listed: Callable[..., Path], tmp_path: Path, number: int
) -> None:
    source = listed("V", NAMES)
    flags = ["--config.data.name=video_folder", f"--config.data.source_dir={source}"]
    config = load_config("demo", [*flags, f"--config.model.num_classes={number}"])
    with pytest.raises(UserError, match=f"num_classes: {number}, but .* has 3 classes"):
        run_training(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "data").exists()
    assert not (tmp_path / "run" / "config.json").exists()


def test_without_data_a_model_has_the_configs_number_of_classes() -> None:
    def outputs(*flags: str) -> int:
        (network,) = load_config("video_folder:uniform", flags).build_method().networks().values()
        return network.outputs

    assert outputs("--config.model.num_classes=20") == 20
    assert outputs() == NOMINAL_CLASSES, "where it is open"


def test_a_job_without_data_tells_where_the_number_is_open(
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = ["--config.model.backbone=resnet8_tiny", "--config.model.resolution=16"]
    main(["costs", "--config=video_folder:uniform", *size])
    assert f"counted for {NOMINAL_CLASSES} classes" in capsys.readouterr().out


def test_names_are_as_many_as_classes_and_none_comes_twice() -> None:
    for names, message in {
        ("a", "b"): "2 names, but config.model.num_classes is 3",
        ("a", "b", "a"): "names a class twice: a",
        ("a", "", "b"): "empty name",
    }.items():
        with pytest.raises(UserError, match=message):
            Config.from_dict({**CONFIG.to_dict(), "class_names": names})
