"""Training on own videos: a batch that fits, learning rates to match, early word on trouble."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.cli.main import main
from ar_net_jax.config.files import config_path
from ar_net_jax.data.embedded.builder import write_video
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.runtime import mesh as devices
from ar_net_jax.training import batch_size
from ar_net_jax.training.batch_size import choose_batch, settle_batch, step_bytes, tell_batch
from ar_net_jax.training.trouble import LossTrend, missing_classes

TINY = [
    "--config.model.resolution=24",
    "--config.model.backbone=resnet8_tiny",
    "--config.model.dtype=float32",
    "--config.data.num_frames=4",
    "--config.data.frame_rate=0",
]


def _config(*overrides: str) -> Config:
    return load_config("video_folder:uniform", [*TINY, *overrides])


@pytest.mark.parametrize(
    ("num_videos", "memory_for", "expected"),
    [
        (3, 1000, 2),  # BatchNorm wants two.
        (20, 1000, 2),
        (62, 1000, 4),  # 7 would make nearly 8 steps an epoch, 4 is the power of two below.
        (64, 1000, 8),
        (5000, 1000, 16),
        (5000, 9, 8),
        (5000, 1.5, 2),
    ],
)
def test_the_batch_fits_videos_and_memory(
    num_videos: int, memory_for: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config()
    # Memory in which so many videos fit, of which the batch may take two thirds.
    monkeypatch.setattr(devices, "memory_limit", lambda mesh: 1.5 * memory_for * step_bytes(config))
    assert choose_batch(config, num_videos) == expected


def test_memory_of_a_step_is_near_what_xla_needs() -> None:
    """By `arnet train --config=demo --dry-run`: 0.0234 GiB for 2 videos, 0.0699 for 8."""
    needed = (0.0699 - 0.0234) / 6 * 2**30
    assert needed < step_bytes(load_config("demo")) < 1.3 * needed


@pytest.mark.parametrize(
    ("backbone", "resolution", "frame_mb"),
    [("efficientnet_lite0", 112, 53.2), ("mobilenet_v2", 84, 23.0), ("resnet18", 112, 10.7)],
)
def test_memory_of_published_networks_is_near_what_xla_needs(
    backbone: str, resolution: int, frame_mb: float
) -> None:
    """XLA's count of temporary bytes of a gradient on CPU, 24 frames against 8, for each frame."""
    fields = {"model.backbone": backbone, "model.resolution": resolution, "data.num_frames": 1}
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    found = step_bytes(_config(*overrides))
    assert 0.8 < found / (frame_mb * 1e6) < 1.4


def test_a_batch_that_may_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    given = _config()
    config = settle_batch(given, None, 20)
    monkeypatch.setattr(devices, "memory_limit", lambda mesh: 4 * step_bytes(config))
    assert tell_batch(config, given, 20).count("\n") == 0
    monkeypatch.setattr(devices, "memory_limit", lambda mesh: 2.5 * step_bytes(config))
    told = tell_batch(config, given, 20)
    assert "config.data.num_frames, now 4" in told.split("\n")[1]
    assert tell_batch(config, config, 20) is None, "whoever gives a batch has thought of it"


def test_rates_follow_the_batch_that_is_given_or_found(tmp_path: Path) -> None:
    paper = load_config("activitynet:uniform").stages
    given = settle_batch(_config("--config.data.batch_size=12"), tmp_path, 1000)
    found = settle_batch(_config(), tmp_path, 62)
    for config, size in ((given, 12), (found, 4)):
        assert config.data.batch_size == size and config.optimizer.rates_for_batch == 0
        for name in config.stage_order:
            rate = config.stages[name].learning_rate
            assert rate == pytest.approx(paper[name].learning_rate * (size / 48) ** 0.5)
    assert settle_batch(found, tmp_path, 5000) == found
    assert settle_batch(_config(), tmp_path, None) == _config(), "left open in a new run"
    (tmp_path / "config.json").write_text(json.dumps(found.to_dict()))
    assert settle_batch(_config(), tmp_path, 5000) == found, "a run goes on as it began"
    old = found.to_dict()
    old["data"]["batch_size"] = 16
    del old["optimizer"]["rates_for_batch"]  # As version 0.1.0 recorded it.
    (tmp_path / "config.json").write_text(json.dumps(old))
    rates = {n: s.learning_rate for n, s in settle_batch(_config(), tmp_path, 62).stages.items()}
    assert rates == {name: paper[name].learning_rate * (16 / 48) for name in rates}


def test_other_configs_are_as_they_were() -> None:
    config = load_config("demo")
    assert settle_batch(config, None, 10) == config


def test_a_loss_that_does_not_fall_is_told_once() -> None:
    rng = np.random.default_rng(0)
    flat, falling = LossTrend(), LossTrend()
    told = []
    for step in range(1, 1001):
        flat.add(jnp.float32(2.3 + 0.001 * step / 1000))
        falling.add(jnp.float32(2.3 - step / 1000 + rng.normal(0, 0.1)))
        if step % 20 == 0:
            told.append(flat.look())
            assert falling.look(last=step == 1000) is None
    assert [i for i, line in enumerate(told) if line] == [4], "after 100 steps, and not again"
    assert told[4].startswith("the loss has not fallen in 100 steps (mean of the first quarter 2.3")


@pytest.mark.parametrize(("steps", "tells"), [(19, False), (20, True)])
def test_the_end_of_a_short_stage_counts_too(steps: int, tells: bool) -> None:
    trend = LossTrend()
    for _ in range(steps):
        trend.add(jnp.float32(1))
    assert trend.look() is None
    assert bool(trend.look(last=True)) == tells


class _Split(list):
    def __init__(self, name: str, labels: list[list[int]]) -> None:
        super().__init__({"labels": np.array(row)} for row in labels)
        self.split, self.class_names = name, ["run", "sew", "swim"]


def test_classes_without_videos_are_told() -> None:
    train = _Split("train", [[0], [2, 0], [2]])
    whole = _Split("validation", [[0], [1], [2]])
    splits: list = [train, whole]
    (line,) = missing_classes(splits)
    assert line == "train: no videos of 1 of 3 classes, which cannot be learnt: sew"
    (line,) = missing_classes([whole, _Split("validation", [[1]])])  # type: ignore[list-item]
    assert line == "validation: no videos of 2 of 3 classes, which are not measured: run, swim"


def test_one_line_trains_on_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, videos = np.random.default_rng(0), tmp_path / "videos"
    for split, count in (("train", 3), ("validation", 1)):
        for label in ("run", "sew"):
            folder = videos / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                frames = rng.integers(0, 256, (6, 32, 40, 3), np.uint8)
                write_video(folder / f"{number}.mp4", frames, fps=8, crf=30)
    (videos / "classes.txt").write_text("run\nsew\nswim\n")
    argv = ["train", "--config=video_folder:uniform", f"--workdir={tmp_path}/run", *TINY]
    argv += [f"--config.data.source_dir={videos}", "--config.stage_order=('joint',)"]
    argv += ["--config.stages.joint.epochs=4", "--config.log_every=50"]
    main(argv)
    told = capsys.readouterr().out
    assert "batches of 2 videos, to fit the 6 training videos and this machine; " in told
    assert "train: no videos of 1 of 3 classes, which cannot be learnt: swim" in told
    assert told.count("left by its first steps") == 1
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["model"]["num_classes"] == 3 and config["data"]["batch_size"] == 2
    main(argv)
    assert "trained model" in capsys.readouterr().out, "the same line goes on with the run"


def test_the_rule_of_the_config_is_that_of_the_code() -> None:
    text = " ".join(config_path("video_folder").read_text().split())
    assert f"at least {batch_size._STEPS_PER_EPOCH} steps" in text
    assert f"{batch_size._MOST_PER_DEVICE} at most" in text
    assert "two thirds" in text and pytest.approx(2 / 3) == batch_size._SHARE_OF_MEMORY
