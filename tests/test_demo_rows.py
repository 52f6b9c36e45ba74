"""What the demo's table is made of: which models, at how many frames, within which budget."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ar_net_jax.demo import rows
from ar_net_jax.demo.plan import EXTRA_FRAMES, UNIFORM, WEIGHTED, Plan
from ar_net_jax.evaluation.evaluate import Evaluation, Figures
from ar_net_jax.evaluation.metrics import Predictions
from ar_net_jax.experiment import Config

PER_FRAME = 0.007
"""GFLOPs of a frame in Uniform; other rows need a share of it."""
NO_FIGURES = Figures(0, 0, 0, 0, 0, 0, "macs", None, 0, "routed", 0, 8, 1)


def _config(method: str) -> Config:
    small = {"num_classes": 3, "resolutions": (24, 16), "backbones": ("resnet8_tiny",)}
    policy = {"backbone": "resnet8_tiny", "resolution": 16, "hidden_size": 8}
    if method == "uniform":
        model: Mapping[str, Any] = {"num_classes": 3, "resolution": 24, "backbone": "resnet8_tiny"}
    else:
        model = {**small, "policy": policy}
    return Config.from_dict({"method": method, "model": model, "data": {"num_frames": 8}})


class _Folders:
    """Stands in for trained models: each folder's cost per frame falls with the penalty."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, weighted_share: float) -> None:
        self.asked: list[tuple[str, str, int, float]] = []
        self._share = weighted_share
        monkeypatch.setattr(rows, "load_config_and_variables", self._load)
        monkeypatch.setattr(rows, "evaluate_model", self._evaluate)

    def _load(self, folder: Path) -> tuple[Config, str]:
        return _config(
            "uniform" if folder.name in (UNIFORM.name, "lstm") else "ar_net"
        ), folder.name

    def _evaluate(
        self,
        config: Config,
        variables: str,
        split: str,
        *,
        num_frames: int | None = None,
        cost_penalty: float = 0.0,
    ) -> Evaluation:
        count = num_frames or config.data.num_frames
        self.asked.append((variables, split, count, cost_penalty))
        share = self._share if variables == WEIGHTED.name else 0.4
        cost = PER_FRAME * (1 if config.method == "uniform" else share * (1 - 0.4 * cost_penalty))
        figures = dataclasses.replace(
            NO_FIGURES,
            gflops_per_frame=cost,
            gflops_per_video=cost * count,
            num_frames=count,
            cost_penalty=cost_penalty,
        )
        nothing = Predictions(np.full((1, 3), 1 / 3), np.zeros((1, 1)), np.arange(1))
        return Evaluation(nothing, np.zeros(1), figures, again=lambda _: None, batch_size=1)


def _rows(tmp_path: Path) -> dict[str, Figures]:
    splits = rows.Splits("validation", "test")  # type: ignore[arg-type]
    made, _ = rows.make_rows(Plan(tmp_path), splits)
    return {row.method: row.figures for row in made}


def test_uniform_stands_there_at_the_cost_and_at_the_frames_of_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _Folders(monkeypatch, weighted_share=0.3)
    found = _rows(tmp_path)
    assert list(found) == [
        "AR-Net",
        "AR-Net, weighted frames, 10 frames",
        "Uniform, 8 frames",
        # Of 8 frames, .4 of the cost pays for 3.2.
        "Uniform, 3 frames",
        "Uniform, 4 frames",
        "Uniform, 10 frames",
        "LSTM",
    ]


@pytest.mark.parametrize("share", [0.3, 0.45, 0.9])
def test_the_row_with_more_frames_stays_within_half_of_uniforms_cost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, share: float
) -> None:
    folders = _Folders(monkeypatch, share)
    found = _rows(tmp_path)["AR-Net, weighted frames, 10 frames"]
    half = PER_FRAME * 8 / 2
    assert found.num_frames == 8 + EXTRA_FRAMES == 10
    assert found.gflops_per_video <= half * (1 + 1e-9)
    # The penalty that would do exactly, on a scale of 32 steps.
    exact = max(0.0, (1 - half / (PER_FRAME * found.num_frames * share)) / 0.4)
    assert exact <= found.cost_penalty < exact + 2 / 32 + 1e-9
    # Only what was chosen on the validation videos is tried on the test videos.
    tested = [asked for asked in folders.asked if asked[:2] == (WEIGHTED.name, "test")]
    assert len(tested) == 1
