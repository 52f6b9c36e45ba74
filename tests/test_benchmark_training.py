"""The benchmark of training: what it measures, on a small model."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from ar_net_jax.benchmarks import training, training_report
from ar_net_jax.benchmarks.machine import describe_machine, peak_memory
from ar_net_jax.benchmarks.pipeline_rate import (
    DrawnVideos,
    PipelineRate,
    compare_with_pillow,
    measure_pipeline,
)
from ar_net_jax.benchmarks.training_calls import StepCall, stage_calls
from ar_net_jax.cli import benchmark_training
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config

SMALL = (
    "--config.model.resolutions=(24,16)",
    "--config.model.backbones=('resnet8_tiny',)",
    "--config.model.policy.backbone=resnet8_tiny",
    "--config.model.policy.resolution=16",
    "--config.model.policy.hidden_size=8",
    "--config.data.batch_size=2",
    "--config.data.num_frames=4",
    "--config.stage_order=('joint','finetune')",
)


def _config() -> Config:
    return load_config("demo", SMALL)


def test_the_report_has_both_forms_and_the_cores_that_feed_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    benchmark_training.add_flags(parser)
    file = tmp_path / "figures.json"
    flags = parser.parse_args(
        [
            "--config=demo",
            "--usage=4,2,2,0,0",
            "--repetitions=1",
            "--peak-tflops=1",
            "--only=steps",
            f"--json={file}",
            "--quiet",
        ]
    )
    benchmark_training.run(flags, SMALL)
    document = json.loads(file.read_text())
    rows = {row["name"]: row for row in document["steps"]}
    assert list(rows) == ["joint", "finetune, masked", "finetune, routed"]
    routed, masked = rows["finetune, routed"], rows["finetune, masked"]
    assert routed["of_masked"] == pytest.approx(routed["seconds"] / masked["seconds"])
    assert rows["joint"]["clips_per_second"] == pytest.approx(2 / rows["joint"]["seconds"])
    assert rows["joint"]["share_of_peak"] == rows["joint"]["tflops_per_second"]
    assert [routed[key] for key in ("stage", "form")] == ["finetune", "routed"]
    assert routed["tflops_per_second"] is None
    assert "finetune" in capsys.readouterr().out


def test_steps_are_told_with_the_cores_that_feed_them(capsys: pytest.CaptureFixture[str]) -> None:
    config = _config()
    calls = [
        StepCall("joint", "masked", 1, lambda _: None),
        StepCall("NCHW", "masked", 1, lambda _: None, by_torch=True),
    ]
    found = training.TrainingBenchmark(
        steps=tuple(training.step_rows(config, calls, [0.1, 0.2], peak_tflops=None)),
        pipeline=PipelineRate(20.0, 2, 10.0, 1e4),
        usage="half",
        config=config,
        machine=describe_machine(),
        peak_memory=peak_memory(),
        versions={},
    )
    training_report.print_training_benchmark(found)
    text = capsys.readouterr().out
    # Two clips of four frames in a tenth of a second.
    assert "joint takes 80 frames/s: 8 cores feed it" in text
    assert "torch, NCHW" in text and "NCHW takes" not in text
    json.dumps(found.to_json())


def test_flops_are_those_of_three_forward_passes_of_every_network() -> None:
    config = _config()
    networks = config.build_method().networks()
    assert list(networks) == ["24px", "policy", "LSTM"]
    expected = 6e9 * sum(network.gflops("macs") for network in networks.values()) * 2 * 4
    assert training.step_flops(config) == pytest.approx(expected)


def test_a_usage_that_does_not_fit_is_refused_before_anything_is_compiled() -> None:
    with pytest.raises(UserError, match="2 given, but there are 5 actions"):
        stage_calls(_config(), "1,1")


def test_drawn_frames_are_photographs_in_size() -> None:
    videos = DrawnVideos(1, 2, (340, 256))
    assert len(videos) == 1
    assert 15e3 < videos.bytes_per_frame < 60e3
    assert videos[0]["num_frames"] == len(videos[0]["frames"]) == 2


def test_the_pipeline_is_measured_per_core() -> None:
    found = measure_pipeline(_config(), seconds=0.2, size=(64, 48))
    assert found.frames_per_second > 0
    per_core = found.frames_per_second / found.cores
    assert found.frames_per_second_per_core == pytest.approx(per_core)
    assert np.isfinite(found.bytes_per_frame)


def test_the_pipeline_is_measured_beside_pillow_alone() -> None:
    found = compare_with_pillow(rounds=1, num_batches=2, num_frames=4, batch_size=2)
    assert found.pipeline > 0 and found.pillow > 0
    assert found.ratio == pytest.approx(found.pipeline / found.pillow)
