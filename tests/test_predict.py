"""`arnet predict` says what the model says, names classes and frames, and names bad files."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from saved_models import AR_NET, UNIFORM, save_random_model, write_noise

from ar_net_jax.checkpoints import load_model, save_model
from ar_net_jax.cli.main import main
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.data.video import read_video
from ar_net_jax.experiment import Config, with_classes
from ar_net_jax.inference.model import load
from ar_net_jax.inference.predict import (
    PredictedVideo,
    UnreadVideo,
    Windowing,
    _decisions,
    predict_videos,
)
from ar_net_jax.reporting.annotated import annotate_video, plan_targets
from ar_net_jax.reporting.predictions_file import PredictionsFile

FPS = 8


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_noise(path, 32, FPS)
    return path


def _predict(folder: Path, *flags: str) -> list[dict]:
    output = folder / "predictions.json"
    main(["predict", f"--workdir={folder}", f"--json={output}", *flags])
    return json.loads(output.read_text())["videos"]


def test_it_prints_what_the_model_says(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = save_random_model(tmp_path, AR_NET)
    (tmp_path / "same.mp4").symlink_to(video)
    first, second = _predict(tmp_path, "--top=3", str(video), f"{tmp_path}/same.mp4")
    assert {**first, "path": ""} == {**second, "path": ""}
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
    assert sum(f["gflops"] for f in first["frames"]) == pytest.approx(first["gflops"])
    assert first["gflops_convention"] == "macs"
    text = capsys.readouterr().out
    assert str(video) in text and "GFLOPs (macs)" in text and f"class {best[0]}" in text


def test_frames_that_a_skip_covers_are_marked(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = save_random_model(tmp_path, AR_NET, action=3)
    page = tmp_path / "report.html"
    (row,) = _predict(tmp_path, str(video), f"--html={page}")
    assert {frame["action"] for frame in row["frames"]} == {"skip 4"}
    shown = page.read_text()
    assert shown.count('<li class="out"') == 8 and shown.count(">skips 4 (covered)<") == 6
    assert str(video) in shown and f">{row['frames'][7]['time']:.2f} s<" in shown
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
        ("multi_scale", AR_NET | {"skips": ()}, "24px + 16px", "24 px + 16 px"),
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
    save_random_model(tmp_path, model, method=method)
    (row,) = _predict(tmp_path, str(video))
    assert {frame["action"] for frame in row["frames"]} == {action}
    assert not any(frame["covered"] or frame["left_out"] for frame in row["frames"])
    assert told in capsys.readouterr().out


def test_a_skip_of_the_random_policy_leaves_out_its_own_frame_alone() -> None:
    config = Config.from_dict({"method": "random_policy", "model": AR_NET})
    method = config.build_method()
    actions, times = np.array([[3, 3, 0, 2, 1]]), np.arange(5.0)
    frames = _decisions(method, actions, times, 5.0)
    assert not any(frame.covered for frame in frames)
    assert [frame.left_out for frame in frames] == [True, True, False, True, False]
    told = ["not looked at", "not looked at", "24 px", "not looked at", "16 px"]
    assert [frame.description for frame in frames] == told


def test_classes_are_called_as_the_model_says(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, names = save_random_model(tmp_path, AR_NET), ["cook", "swim", "dance", "sew"]
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
        (["broken.mp4", "--jobs=0"], "--jobs: must be at least 1"),
        (["broken.mp4", "--stride=2"], "--stride: give --window=SECONDS too"),
        (["broken.mp4", "--window=0"], "--window: must be a number of seconds above 0"),
        (["broken.mp4", "--window=2", "--stride=nan"], "--stride: must be a number of seconds"),
        (["broken.mp4", "--video=x.gif"], "--video=x.gif: give a name that ends in .mp4"),
        (["broken.mp4", "--video=broken.mp4"], "broken.mp4 would be written over"),
        (["broken.mp4", "--video=nowhere/x.mp4"], "there is no folder nowhere"),
        (["broken.mp4", "pyproject.toml", "--video=x.mp4"], "x.mp4: 2 videos need a folder"),
        (["*.mkv"], "*.mkv: no video has such a name"),
        (["empty"], "empty: no videos in this folder"),
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
    save_random_model(tmp_path, AR_NET)
    monkeypatch.chdir(tmp_path)
    Path("broken.mp4").write_bytes(b"no video")
    Path("pyproject.toml").write_text("")
    Path("empty").mkdir()
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["predict", f"--workdir={tmp_path}", *flags])
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_a_bad_file_is_told_and_the_others_go_on(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_random_model(tmp_path, AR_NET)
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.mp4", "deep/a.mp4", "z.mp4"):
        (folder / name).symlink_to(video)
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "readme.txt").write_text("not a video")
    output, gone = tmp_path / "x.json", str(tmp_path / "gone.mp4")
    argv = ["predict", f"--workdir={tmp_path}", f"--json={output}", f"--video={tmp_path}/out"]
    with pytest.raises(SystemExit) as stopped:
        main([*argv, gone, str(folder), f"{folder}/*.mp4", "--jobs=3"])
    assert stopped.value.code == 1
    document = json.loads(output.read_text())
    found = [Path(entry["path"]).relative_to(folder).as_posix() for entry in document["videos"]]
    assert found == ["a.mp4", "deep/a.mp4", "z.mp4"]
    broken = str(folder / "broken.mp4")
    assert [entry["path"] for entry in document["unread"]] == [gone, broken]
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert lines[0] == f"arnet predict: {gone}: no such file"
    assert lines[1].startswith(f"arnet predict: {broken}: does not decode")
    assert lines[2:] == ["arnet predict: 2 of 5 videos could not be read"]
    assert printed.out.count("GFLOPs (macs)") == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a-2.mp4",
        "a.mp4",
        "z.mp4",
    ]


def test_windows_are_classified_by_themselves_and_make_a_timeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, clip = np.random.default_rng(1), tmp_path / "clip.mp4"
    write_video(clip, rng.integers(0, 256, (48, 32, 40, 3), np.uint8), fps=FPS, crf=30)
    save_random_model(tmp_path, AR_NET)
    (row,) = _predict(tmp_path, "--window=4", "--stride=2", "--top=4", str(clip))
    spans = [(window["start"], window["end"]) for window in row["windows"]]
    assert spans == [(0, 4), (2, 6)] and row["frames"] == []
    # The middle frames of the eighths of each window, four frames long.
    model, every = load(tmp_path), np.stack(read_video(clip, num_frames=48, size=24)[0])
    probabilities = []
    for window, start in zip(row["windows"], (0, 16)):
        result = model(every[start + 2 : start + 32 : 4][None])
        odds = np.exp(np.asarray(result.logits[0], np.float64))
        probabilities.append(odds / odds.sum())
        told = {entry["index"]: entry["probability"] for entry in window["classes"]}
        np.testing.assert_allclose([told[i] for i in range(4)], probabilities[-1], rtol=1e-4)
        assert window["gflops"] == pytest.approx(float(result.gflops[0]))
    parts = [(0, 2, [0]), (2, 4, [0, 1]), (4, 6, [1])]
    for start, end, held in parts:
        mean = np.mean([probabilities[i] for i in held], axis=0)
        (part,) = (p for p in row["timeline"] if p["start"] <= start and p["end"] >= end)
        assert part["index"] == int(np.argmax(mean))
    assert row["gflops"] == pytest.approx(sum(window["gflops"] for window in row["windows"]))
    assert "From (s)" in capsys.readouterr().out


def test_jobs_and_order_do_not_change_the_result(tmp_path: Path, video: Path) -> None:
    save_random_model(tmp_path, AR_NET)
    model, names = load(tmp_path), ["a", "b", "c", "d"]
    paths = [str(video), str(tmp_path / "none.mp4"), str(video)]
    alone = list(predict_videos(model, paths, names, windowing=Windowing(2.0, 1.0)))
    assert alone == list(predict_videos(model, paths, names, windowing=Windowing(2.0, 1.0), jobs=3))
    assert isinstance(alone[0], PredictedVideo) and alone[0] == alone[2]
    assert isinstance(alone[1], UnreadVideo) and alone[1].reason.endswith(
        "none.mp4: no such file; replace the file or remove it"
    )


def test_the_annotated_video_has_the_frames_and_times_of_the_other(
    tmp_path: Path, video: Path
) -> None:
    save_random_model(tmp_path, AR_NET)
    model, target = load(tmp_path), tmp_path / "seen.mkv"
    (predicted,) = predict_videos(model, [str(video)], ["a", "b", "c", "d"])
    assert isinstance(predicted, PredictedVideo)
    annotate_video(predicted, target, float(model.method.choice_gflops().max()))
    with av.open(str(video)) as before, av.open(str(target)) as after:
        pairs = zip(before.decode(video=0), after.decode(video=0), strict=True)
        for one, other in pairs:
            assert other.time == pytest.approx(one.time, abs=1e-3)
            # Enlarged, so that the text fits; the middle is the picture, the top is darkened.
            shown = other.to_ndarray(format="rgb24").astype(float)
            original = one.to_ndarray(format="rgb24").astype(float)
            assert shown.shape[:2] == (8 * 32, 8 * 40)
            middle, top = slice(112, 208), slice(0, 8)
            assert abs(shown[middle].mean() - original[14:26].mean()) < 12
            assert shown[top].mean() < 0.6 * original[:1].mean()
    assert [path.name for path in tmp_path.iterdir() if ".new" in path.name] == []


def test_running_gflops_and_decisions_are_those_up_to_the_time(tmp_path: Path, video: Path) -> None:
    from ar_net_jax.reporting.annotated import _Captions

    save_random_model(tmp_path, AR_NET, action=3)
    (predicted,) = predict_videos(load(tmp_path), [str(video)], ["a", "b", "c", "d"])
    assert isinstance(predicted, PredictedVideo)
    captions = _Captions(predicted, costliest=1.0)
    before, third = captions.at(0.1), captions.at(predicted.frames[2].time + 0.01)
    assert before.lines[0] == "not looked at yet" and before.lines[1].startswith("0 of ")
    assert third.lines[0] == f"{predicted.frames[2].time:.1f} s: skips 4 (covered)"
    assert third.lines[1] == (
        f"{3 / 8 * predicted.gflops:.3g} of {predicted.gflops:.3g} GFLOPs (macs)"
    )
    assert [cell.cost for cell in third.cells] == [None] * 8
    assert third.title == f"{predicted.classes[0].name} {predicted.classes[0].probability:.0%}"


def test_the_file_of_predictions_is_whole_after_every_video(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("of an earlier run")
    videos = [PredictedVideo(f"ü{i}.mp4", (), (), float(i), "macs") for i in range(3)]
    with PredictionsFile(path, {"source": "built in"}) as file:
        assert path.read_text() == "of an earlier run"
        for count, video in enumerate(videos, 1):
            file.add(UnreadVideo(f"bad{count}.mp4", "broken"))
            file.add(video)
            document = json.loads(path.read_text())
            assert [entry["gflops"] for entry in document["videos"]] == list(range(count))
            assert document["videos"][-1]["path"] == video.path
            assert len(document["unread"]) == count
            assert document["plan"] == {"source": "built in"}


def test_videos_of_one_name_get_numbers(tmp_path: Path) -> None:
    files = [Path("a/x.mp4"), Path("a/x-2.mkv"), Path("b/x.avi")]
    targets = plan_targets("--video", str(tmp_path / "out"), files)
    assert [target.name for target in targets.values()] == ["x.mp4", "x-2.mp4", "x-3.mp4"]
