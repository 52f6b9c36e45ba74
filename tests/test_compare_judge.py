"""What is judged and timed of a model, on a few videos and networks that compile in a moment."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ar_net_jax.benchmarks.entries import Entry, fresh_variables
from ar_net_jax.checkpoints import save_model
from ar_net_jax.compare import judge
from ar_net_jax.compare.judge import JUDGEMENT, STRIPS, VIEW, Judgement, Judging, scored_split
from ar_net_jax.compare.study import Setting
from ar_net_jax.compare.timing import Protocol, time_models
from ar_net_jax.config.data import EmbeddedConfig
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import prepare_data
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.inference.model import load
from ar_net_jax.reporting.page.view import ModelView

FRAMES, CHOSEN = 4, 1
TINY = (
    "--config.model.backbone=resnet8_tiny",
    "--config.model.resolution=16",
    "--config.model.sampler_resolution=12",
    f"--config.model.frames={CHOSEN}",
    "--config.model.num_classes=10",
    f"--config.data.num_frames={FRAMES}",
    "--config.data.eval_batch_size=4",
)
SETTINGS = (Setting(), Setting("model.frames=3", ("--config.model.frames=3",)))


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("demo:scsampler", TINY)


@pytest.fixture(scope="module")
def data(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    few = dataclasses.replace(config.data, embedded=EmbeddedConfig(train=1, validation=2, test=6))
    return prepare_data(few, tmp_path_factory.mktemp("data"), progress=False)


@pytest.fixture(scope="module")
def judging(config: Config, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Judging:
    workdir = tmp_path_factory.mktemp("run")
    save_model(workdir / "model", fresh_variables(config.build_method()), config.to_dict())
    return Judging(workdir, SETTINGS, 2, data, scored_split(data))


@pytest.fixture(scope="module")
def judged(judging: Judging) -> Judgement:
    assert judging.done() is None
    judging.run()
    found = judging.done()
    assert found is not None
    return found


def test_every_setting_is_scored_on_all_of_test(
    judged: Judgement, config: Config, judging: Judging
) -> None:
    assert judging.split == "test" and judged.validation.num_videos == 2
    assert [score.figures.num_videos for score in judged.scores] == [6, 6]
    main, sampler = (n.gflops("macs") for n in config.build_method().networks().values())
    costs = [score.figures.gflops_per_video for score in judged.scores]
    assert costs == pytest.approx([k * main + FRAMES * sampler for k in (CHOSEN, 3)])


def test_the_control_spends_the_same_elsewhere(
    judged: Judgement, judging: Judging, data: Path
) -> None:
    assert judged.control is not None and judged.control.draws == 2
    assert judged.control.gflops_per_video == pytest.approx(judged.trained.gflops_per_video)
    # By hand: the same draws, imposed through the module on each video.
    model = load(judging.workdir)
    evaluation = judge.evaluate_in(
        Setting(), model.config, model.variables, VideoSource(data, "test")
    )
    actions = evaluation.predictions.actions
    assert actions is not None
    top1 = []
    for draw in range(2):
        generator = np.random.default_rng([model.config.seed, draw])
        imposed = np.stack([generator.permutation(row) for row in actions])
        assert (imposed != actions).any()
        found = judge.evaluate_model(
            model.config,
            model.variables,
            VideoSource(data, "test"),
            forced_actions=imposed.astype(np.int32),
            routing="masked",
        )
        np.testing.assert_array_equal(found.predictions.actions, imposed)
        top1.append(found.figures.top1)
    assert judged.control.top1 == pytest.approx(np.mean(top1))


def test_crops_are_drawn_anew_for_every_control(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def evaluate(config: Config, *_: object, **how: Any) -> Any:
        calls.append((config.seed, how["random_crops"], how["forced_actions"]))
        figures = SimpleNamespace(mAP=len(calls), top1=1.0, gflops_per_video=2.0)
        return SimpleNamespace(figures=figures)

    monkeypatch.setattr(judge, "evaluate_model", evaluate)
    config = load_config("demo:adafocus_v2", ["--config.seed=5"])
    actions = np.zeros((2, 8), np.int32)
    trained = SimpleNamespace(predictions=SimpleNamespace(actions=actions))
    found = judge._control(config, None, None, trained, 3)  # type: ignore[arg-type]
    assert [call[:2] for call in calls] == [(5, True), (6, True), (7, True)]
    # Every frame is looked at, so nothing else is imposed but that.
    assert all(forced is None or not forced.any() for *_, forced in calls)
    assert found is not None and found.mAP == 2.0


def test_it_is_judged_once_in_the_same_settings(
    judged: Judgement, judging: Judging, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("judged again")

    monkeypatch.setattr(judge, "evaluate_model", never)
    judging.run()
    assert dataclasses.replace(judging, settings=SETTINGS[:1]).done() is None
    written = json.loads((judging.workdir / JUDGEMENT).read_text())
    assert Judgement.from_json(written) == judged
    with Image.open(judging.workdir / STRIPS) as strips:
        assert strips.width > 500
    view = ModelView.from_json(json.loads((judging.workdir / VIEW).read_text()))
    assert len(view.strips) == 2 and view.num_videos == judged.trained.num_videos
    precisions = [one.average_precision for one in view.classes if one.videos]
    assert np.mean(precisions) == pytest.approx(judged.trained.mAP)


def test_data_without_test_labels_are_tested_on_validation(tmp_path: Path, data: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    info = json.loads((copy / "dataset_info.json").read_text())
    info["splits"] = [split for split in info["splits"] if split["name"] != "test"]
    (copy / "dataset_info.json").write_text(json.dumps(info))
    assert scored_split(copy) == "validation"


def test_times_are_of_every_model_and_its_best_batch(config: Config, data: Path) -> None:
    variables = fresh_variables(config.build_method())
    entry = Entry("a", config, variables, FRAMES, "routed", split=VideoSource(data, "test"))
    three = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, frames=3),  # type: ignore[call-arg]
    )
    entries = {"one": entry, "three": dataclasses.replace(entry, config=three)}
    protocol = Protocol(batches=(2, 64), rounds=4, progress=False)
    times = time_models(entries, ["one"], protocol)
    one, other = times["one"], times["three"]
    # The split has six videos.
    assert one.best_batch == 2 and one.videos_per_second is not None
    assert one.form == "routed" and one.dtype == "float32"
    assert 0 < one.latency.p50 <= one.latency.p95 and one.latency.calls == 4
    assert one.decoded_latency is not None and one.decoded_latency.p50 > one.latency.p50
    assert one.decoded_videos_per_second is not None
    assert one.decoded_videos_per_second < one.videos_per_second
    assert other.best_batch is None and other.latency.p50 > 0
