"""What `arnet evaluate` leaves: classes, confusions, every video; results of others stay."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from saved_models import AR_NET, save_random_model
from sklearn import metrics as sklearn_metrics

import ar_net_jax
from ar_net_jax.cli.main import main
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.evaluation.settings import file_stem
from ar_net_jax.experiment import Config, apply_overrides
from ar_net_jax.inference.model import load
from ar_net_jax.inference.probabilities import class_probabilities

NAMES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that always takes the largest resolution, beside two videos a class."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in NAMES:
            (folder / "videos" / split / name).mkdir(parents=True)
            for i in range(2):
                frames = rng.integers(0, 256, (9, 32, 40, 3), np.uint8)
                write_video(folder / "videos" / split / name / f"{i}.mp4", frames, fps=8, crf=30)
    data = {
        "name": "video_folder",
        "source_dir": str(folder / "videos"),
        "num_frames": 4,
        "eval_batch_size": 8,
        "num_threads": 1,
    }
    save_random_model(folder, AR_NET, action=0, data=data, class_names=NAMES)
    return folder


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_figures_of_classes_and_videos_agree(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", f"--workdir={run}", "--quiet"])
    told = capsys.readouterr().out
    document = json.loads((run / "evaluation_test.json").read_text())
    (row,) = document["results"]
    videos = _table(run / "evaluation_test_videos.csv")
    classes = _table(run / "evaluation_test_classes.csv")
    with open(run / "evaluation_test_confusion.csv", newline="") as file:
        confusion = list(csv.reader(file))
    # By scikit-learn, from the lines of the videos.
    labels, predicted = ([one[name] for one in videos] for name in ("labels", "predicted"))
    counts = sklearn_metrics.confusion_matrix(labels, predicted, labels=NAMES)
    assert confusion[0] == ["class / taken for", *NAMES]
    assert [line[1:] for line in confusion[1:]] == [list(map(str, c)) for c in counts.tolist()]
    top1 = 100 * sklearn_metrics.accuracy_score(labels, predicted)
    assert row["top1"] == pytest.approx(top1)
    assert [one["right"] for one in videos] == [str(int(a == b)) for a, b in zip(labels, predicted)]
    assert [one["rank_of_first_label"] == "1" for one in videos] == [
        one["right"] == "1" for one in videos
    ]
    mean = np.mean([float(one["average_precision_percent"]) for one in classes])
    assert row["mAP"] == pytest.approx(mean)
    assert {one["class"]: int(one["videos"]) for one in classes} == dict.fromkeys(NAMES, 2)
    gflops = np.mean([float(one["gflops"]) for one in videos])
    assert row["gflops_per_video"] == pytest.approx(gflops)
    # Every frame gets the first choice, and that is said.
    assert {one["frames 24px"] for one in videos} == {"4"}
    assert row["usage"]["24px"] == 1 and "every frame gets '24px'" in told
    assert "Share of frames by choice" in told and "are taken for" in told
    # Names spelt out.
    assert "GFLOPs/" in told and "per video" in told


def test_results_of_other_settings_stay(run: Path) -> None:
    trained = load(run).config
    assert file_stem("test", trained, trained) == "evaluation_test"
    stems = {
        file_stem("validation", trained, trained),
        file_stem("test", trained, trained, routing="masked"),
        file_stem("test", trained, trained, cost_penalties=(-1.0, 0.0)),
        file_stem("test", trained, trained, classes="by_index"),
        *(
            file_stem("test", trained, apply_overrides(trained, [f"--config.{override}"]))
            for override in (
                "data.num_frames=2",
                "data.source_dir=/a/videos",
                "data.source_dir=/b/videos",
                "model.gflops_convention=paper",
            )
        ),
    }
    assert len(stems) == 8 and "evaluation_test" not in stems
    assert "evaluation_test_num_frames=2" in stems and "evaluation_test_penalty=-1,0" in stems
    assert not [stem for stem in stems if "/" in stem or len(stem) > 160]
    # Where data lies, and how it is read, is no setting.
    elsewhere = ["--config.data.data_dir=/x", "--config.data.num_threads=3"]
    assert file_stem("test", trained, apply_overrides(trained, elsewhere)) == "evaluation_test"


def test_binary_cross_entropy_is_shown_as_sigmoids() -> None:
    logits = np.array([[2.0, 1.0, -1.0, 0.0]])
    softmax = Config.from_dict({"model": AR_NET})
    np.testing.assert_allclose(class_probabilities(softmax, logits), scipy.special.softmax(logits))
    losses = {"accuracy": {"target": "binary_cross_entropy"}}
    stages = {
        "warmup": {"objective": "separate", "losses": {"separate": {}}},
        "joint": {"losses": losses},
    }
    values = {"model": AR_NET, "stages": stages, "stage_order": ("warmup", "joint")}
    apart = Config.from_dict(values)
    expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(class_probabilities(apart, logits), expected)
    # The last stage decides.
    first = replace(apart, stage_order=("warmup",))
    assert class_probabilities(first, logits).sum() == pytest.approx(1)


def test_predict_shows_sigmoids(tmp_path: Path, run: Path) -> None:
    stages = {"joint": {"losses": {"accuracy": {"target": "binary_cross_entropy"}}}}
    save_random_model(tmp_path, AR_NET, stages=stages, stage_order=("joint",))
    clip = run / "videos" / "test" / "a" / "0.mp4"
    file = tmp_path / "x.json"
    main(["predict", f"--workdir={tmp_path}", str(clip), f"--json={file}"])
    (video,) = json.loads(file.read_text())["videos"]
    model = load(tmp_path)
    frames, _ = ar_net_jax.read_video(clip, num_frames=8, size=24)
    logits = np.asarray(model(frames[None]).logits[0], np.float64)
    found = {one["index"]: one["probability"] for one in video["classes"]}
    assert found == pytest.approx(dict(enumerate(1 / (1 + np.exp(-logits)))), rel=1e-5)
