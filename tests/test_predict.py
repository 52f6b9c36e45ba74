"""`arnet predict` says what the model says, names classes and frames, and names bad files."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from ar_net_jax.checkpoints import load_model, save_model
from ar_net_jax.cli.main import main
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.data.video import read_video
from ar_net_jax.experiment import Config, with_classes
from ar_net_jax.inference.model import load
from ar_net_jax.inference.predict import _decisions

FPS = 8
MODEL = {
    "num_classes": 4,
    "resolutions": (24, 16),
    "backbones": ("resnet8_tiny",),
    "skips": (1, 4),
    "policy": {"backbone": "resnet8_tiny", "resolution": 16, "hidden_size": 8},
}
UNIFORM = {"num_classes": 4, "resolution": 24, "backbone": "resnet8_tiny"}


def _save(folder: Path, model: dict, action: int | None = None, method: str = "ar_net") -> Config:
    """A model with random weights; its decision head may be made to prefer one action."""
    config = Config.from_dict({"method": method, "model": model, "data": {"num_frames": 8}})
    shapes = config.build_method().variable_shapes()
    rng = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        # Kernels have several axes; what has one may be a variance.
        values = rng.normal(0, 0.1, leaf.shape) if leaf.ndim > 1 else rng.random(leaf.shape) + 0.5
        return values.astype(leaf.dtype)

    variables = jax.tree.map(draw, shapes)
    if action is not None:
        variables["params"]["policy"]["decision"]["bias"][action] = 100
    save_model(folder / "model", variables, config.to_dict())
    return config


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (32, 32, 40, 3), np.uint8)
    write_video(path, frames, fps=FPS, crf=30)
    return path


def _predict(folder: Path, *flags: str) -> list[dict]:
    output = folder / "predictions.json"
    main(["predict", f"--workdir={folder}", f"--json={output}", *flags])
    return json.loads(output.read_text())["videos"]


def test_it_prints_what_the_model_says(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _save(tmp_path, MODEL)
    first, second = _predict(tmp_path, "--top=3", str(video), str(video))
    assert first == second
    frames, times = read_video(video, num_frames=8, size=24)
    result = load(tmp_path)(frames[None])
    odds = np.exp(np.asarray(result.logits[0], np.float64))
    best = np.argsort(-odds)[:3]
    assert [entry["index"] for entry in first["classes"]] == best.tolist()
    assert [entry["name"] for entry in first["classes"]] == [f"class {i}" for i in best]
    np.testing.assert_allclose(
        [entry["probability"] for entry in first["classes"]], odds[best] / odds.sum(), rtol=1e-5
    )
    names = config.build_method().choices.names
    assert [f["action"] for f in first["frames"]] == [names[a] for a in result.actions[0]]
    np.testing.assert_allclose([f["time"] for f in first["frames"]], times)
    assert first["gflops"] == pytest.approx(float(result.gflops[0]))
    assert first["gflops_convention"] == "macs"
    text = capsys.readouterr().out
    assert str(video) in text and "GFLOPs (macs)" in text and f"class {best[0]}" in text


def test_frames_that_a_skip_covers_are_marked(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _save(tmp_path, MODEL, action=3)
    (row,) = _predict(tmp_path, str(video))
    assert {frame["action"] for frame in row["frames"]} == {"skip 4"}
    assert [frame["covered"] for frame in row["frames"]] == [False, True, True, True] * 2
    assert all(frame["left_out"] for frame in row["frames"])
    networks = config.build_method().networks()
    look = sum(networks[name].gflops("macs") for name in ("policy", "LSTM"))
    assert row["gflops"] == pytest.approx(2 * look)
    text = capsys.readouterr().out
    assert text.count("skips 4") == 8 and text.count("(covered)") == 6


@pytest.mark.parametrize(
    ("method", "model", "action", "told"),
    [
        ("uniform", UNIFORM, "24px", "24 px"),
        ("multi_scale", MODEL | {"skips": ()}, "24px + 16px", "24 px + 16 px"),
    ],
)
def test_baselines_treat_all_frames_alike(
    tmp_path: Path,
    video: Path,
    capsys: pytest.CaptureFixture[str],
    method: str,
    model: dict,
    action: str,
    told: str,
) -> None:
    _save(tmp_path, model, method=method)
    (row,) = _predict(tmp_path, str(video))
    assert {frame["action"] for frame in row["frames"]} == {action}
    assert not any(frame["covered"] or frame["left_out"] for frame in row["frames"])
    assert told in capsys.readouterr().out


def test_a_skip_of_the_random_policy_leaves_out_its_own_frame_alone() -> None:
    config = Config.from_dict({"method": "random_policy", "model": MODEL})
    method = config.build_method()
    actions, times = np.array([[3, 3, 0, 2, 1]]), np.arange(5.0)
    frames = _decisions(method, actions, times)
    assert not any(frame.covered for frame in frames)
    assert [frame.left_out for frame in frames] == [True, True, False, True, False]
    told = ["not looked at", "not looked at", "24 px", "not looked at", "16 px"]
    assert [frame.description for frame in frames] == told


def test_classes_are_called_as_the_model_says(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, names = _save(tmp_path, MODEL), ["cook", "swim", "dance", "sew"]
    unnamed = _predict(tmp_path, "--top=4", str(video))[0]["classes"]
    assert [entry["name"] for entry in unnamed] == [f"class {e['index']}" for e in unnamed]
    assert "no names of classes" in capsys.readouterr().out
    variables, _ = load_model(tmp_path / "model")
    save_model(tmp_path / "model", variables, with_classes(config, names).to_dict())
    named = _predict(tmp_path, "--top=4", str(video))[0]["classes"]
    assert [entry["name"] for entry in named] == [names[e["index"]] for e in unnamed]
    assert "no names of classes" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["missing.mp4"], "missing.mp4: no such file"),
        (["broken.mp4"], "broken.mp4: does not decode"),
        (["broken.mp4", "--top=0"], "--top: must be at least 1"),
        (["broken.mp4", "--config.seed=1"], "--config.seed=1: a trained model is used as it is"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    _save(tmp_path, MODEL)
    monkeypatch.chdir(tmp_path)
    Path("broken.mp4").write_bytes(b"no video")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["predict", f"--workdir={tmp_path}", *flags])
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
