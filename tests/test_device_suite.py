"""The device suite: what there is no time for is left out, what fails leaves the others alone."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_config import write_tiny

from ar_net_jax.benchmarks.suite import run as suite_run
from ar_net_jax.benchmarks.suite.peaks import peak_tflops
from ar_net_jax.benchmarks.suite.run import run_suite
from ar_net_jax.benchmarks.suite.settings import SuiteSettings, choose_suite, read_budget
from ar_net_jax.benchmarks.suite.steps import AGREEMENT, SPEED, TORCH, Step, Suite
from ar_net_jax.cli.main import main
from ar_net_jax.errors import UserError


def _settings(folder: Path, **changed: Any) -> SuiteSettings:
    given = {"dtypes": ("float32",), "batches": (2, 1), "methods": ("scsampler",)}
    return SuiteSettings(write_tiny(folder), training_batch=2, rounds=2, **{**given, **changed})


class _MadeUp:
    """Steps that take a known time, or fail."""

    def __init__(self, settings: SuiteSettings, budget: float) -> None:
        self.taken: list[str] = []

    def steps(self) -> Iterator[Step]:
        yield Step(TORCH, "broken", self._fail)
        yield Step(SPEED, "slow", lambda: self._sleep(0.6))
        yield Step(SPEED, "as slow", lambda: self._sleep(0.0))
        yield Step(AGREEMENT, "first of its kind", lambda: self._sleep(0.0))

    def _sleep(self, seconds: float) -> list[dict[str, Any]]:
        time.sleep(seconds)
        return []

    def _fail(self) -> list[dict[str, Any]]:
        raise MemoryError("RESOURCE_EXHAUSTED: 1 GiB\nand a trace")


def test_time_and_failures_leave_the_rest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite_run, "Suite", _MadeUp)
    found = run_suite(_settings(tmp_path), 1.0, tmp_path / "out")
    told = {outcome.title: outcome.status for outcome in found}
    assert told == {
        "broken": "failed",
        "slow": "done",
        # The one before took more than what is left.
        "as slow": "no time",
        "first of its kind": "done",
    }
    document = json.loads((tmp_path / "out" / "device.json").read_text())
    assert [step["status"] for step in document["steps"]] == list(told.values())
    assert document["steps"][0]["reason"] == "MemoryError: RESOURCE_EXHAUSTED: 1 GiB"
    text = (tmp_path / "out" / "device.md").read_text()
    assert "failed (MemoryError: RESOURCE_EXHAUSTED: 1 GiB)" in text
    assert "no time for 1 steps, first speed: as slow" in text
    assert "torch: broken: failed" in capsys.readouterr().err


def test_speed_beside_uniform(tmp_path: Path) -> None:
    """Ratios follow from the times, and executed GFLOPs are at least those that were needed."""
    steps = Suite(_settings(tmp_path, batches=(2,)), 60.0).steps()
    rows = next(step for step in steps if step.kind == SPEED).run()
    uniform = rows[-1]
    assert [row["model"] for row in rows][:2] == ["AR-Net, half", "AR-Net, quarter"]
    assert uniform["form"] == "masked" and uniform["time_ratio"] is None
    for row in rows[:-1]:
        time_ratio = row["latency"]["p50"] / uniform["latency"]["p50"]
        assert row["time_ratio"] == pytest.approx(time_ratio)
        assert row["videos_per_second"] == pytest.approx(2 / row["latency"]["p50"])
        assert row["executed_gflops_per_video"] >= row["gflops_per_video"] * (1 - 1e-6)
        saved = (1 - row["time_ratio"]) / (1 - row["gflops_ratio"])
        assert row["realised_saving"] == pytest.approx(saved)
        assert row["share_of_peak"] is None, "a CPU's peak is not known"


@pytest.mark.slow
def test_every_step_runs(tmp_path: Path) -> None:
    """Through the command line, on networks that compile in a moment."""
    settings = _settings(tmp_path)
    main(
        [
            "benchmark",
            "--suite=device",
            "--budget=1h",
            f"--configs={settings.config}",
            f"--output={tmp_path / 'out'}",
        ]
    )
    document = json.loads((tmp_path / "out" / "device.json").read_text())
    assert {step["status"] for step in document["steps"]} == {"done"}, document["steps"]
    kinds = {step["kind"]: step["rows"] for step in document["steps"]}
    assert set(kinds) == {"agreement", "speed", "parts", "training", "chunks"}
    assert all(row["difference"] < 1e-3 for row in kinds["agreement"])
    text = (tmp_path / "out" / "device.md").read_text()
    assert "measured" in text and "no time" not in text


def test_what_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_budget("90s") == 90 and read_budget("1.5h") == 5400 and read_budget("30") == 30
    for text in ("", "8 minutes", "0m", "-3s"):
        with pytest.raises(UserError, match="--budget="):
            read_budget(text)
    assert peak_tflops("NVIDIA H200", "bfloat16") == 989 and peak_tflops("cpu", "float32") is None
    assert peak_tflops("TPU v5 lite", "bfloat16") == 197
    assert peak_tflops("NVIDIA H100 PCIe", "float32") == 378
    chosen = choose_suite("activitynet:lite")
    assert chosen.spec("lstm") == "activitynet:lite,lstm" and chosen.dtypes == ("float32",)
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", "--suite=device", "--batch=2"])
    assert ended.value.code == 1 and "--suite=device" in capsys.readouterr().err
