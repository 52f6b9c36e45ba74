"""The pieces behind the demo's table: controls cut from a larger model, costs, behaviour."""

import json
from pathlib import Path

import jax
import numpy as np
from ar_net_jax.costs.model_costs import model_cost_table

from ar_net_jax.demo.behaviour import choices_by_kind
from ar_net_jax.demo.controls import single_resolution_model
from ar_net_jax.evaluation.evaluate import Evaluation, gflops_by_video
from ar_net_jax.evaluation.metrics import Predictions
from ar_net_jax.experiment import Config
from ar_net_jax.methods.registry import build_model, init_variables

CONFIG = Config.from_dict(
    {
        "model": {
            "num_classes": 3,
            "resolutions": (24, 16),
            "backbones": ("resnet8_tiny",),
            "skips": (1, 2),
            "policy": {"backbone": "resnet8_tiny", "resolution": 16, "hidden_size": 8},
        }
    }
)


class _OneVideo:
    """A split that holds one video."""

    split = "test"

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, str]:
        return {"name": "test/00000.mp4"}


def _predictions(actions: np.ndarray) -> Predictions:
    count = len(actions)
    return Predictions(np.full((count, 3), 1 / 3), np.zeros((count, 1)), np.arange(count), actions)


def test_a_control_predicts_what_its_backbone_predicts_by_itself() -> None:
    model = build_model(CONFIG.model)
    variables = jax.jit(lambda key: init_variables(CONFIG.model, key))(jax.random.key(1))
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 24, 24, 3), np.uint8)
    separate = model.apply(variables, frames, method="classify_separately")
    for index, name in enumerate(("backbone_0", "policy")):
        config, cut = single_resolution_model(CONFIG, variables, index)
        assert config.model.resolutions == (CONFIG.model.resolutions[index],)
        logits = build_model(config.model).apply(cut, frames).logits
        np.testing.assert_allclose(logits, separate[name], rtol=1e-6, atol=1e-7)


def test_gflops_of_a_video_follow_from_its_actions() -> None:
    table = model_cost_table(CONFIG.model)
    every_look = table.policy + table.lstm
    actions = np.array([[0, 0], [1, 1], [2, 2], [3, 3]])
    expected = [
        2 * (table.actions[0] + every_look),
        2 * every_look,
        2 * every_look,
        every_look,  # "skip 2" covers two frames with one look.
    ]
    np.testing.assert_allclose(gflops_by_video(CONFIG, _predictions(actions)), expected)


def test_choices_are_counted_by_kind_of_frame(tmp_path: Path) -> None:
    folder = tmp_path / "videos" / "test"
    folder.mkdir(parents=True)
    kinds = ["empty", "small", "small", "empty", "large", "empty"]
    annotation = [{"name": "00000", "labels": [0], "kinds": kinds}]
    (folder / "annotations.json").write_text(json.dumps(annotation))
    actions = np.array([[0, 0, 1, 2, 3]])
    index = np.array([[0, 1, 2, 3, 4]])
    evaluation = Evaluation(_predictions(actions), {}, index, again=lambda _: None, batch_size=1)
    behaviour = choices_by_kind(CONFIG, evaluation, _OneVideo(), tmp_path)
    assert behaviour["frames_by_kind"] == {"empty": 2, "large": 1, "small": 2}
    assert behaviour["high_resolution_share"] == {"empty": 0.5, "large": 0.0, "small": 0.5}
    assert behaviour["ratio"] == 1.0
