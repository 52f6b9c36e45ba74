"""The pieces behind the demo's table: controls cut from a larger model, costs, behaviour."""

import functools
import json
from pathlib import Path

import jax
import numpy as np

from ar_net_jax.demo.decisions import choices_by_kind
from ar_net_jax.evaluation.evaluate import Evaluation, Figures
from ar_net_jax.evaluation.metrics import Predictions
from ar_net_jax.experiment import Config
from ar_net_jax.methods.uniform import Uniform, cut_out
from ar_net_jax.recipes import uniform_beside

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


METHOD = CONFIG.build_method()
NO_FIGURES = Figures(0, 0, 0, 0, 0, 0, "macs", None, 0, "routed", 0, 5, 1)


def test_a_control_predicts_what_its_backbone_predicts_by_itself() -> None:
    variables = jax.jit(METHOD.initial_variables)(jax.random.key(1))
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 24, 24, 3), np.uint8)
    modules = {"24px": "backbone_0", "policy": "policy"}
    names = tuple(modules.values())
    apply = functools.partial(METHOD.module().apply, names=names, method="classify_separately")
    separate = jax.jit(apply)(variables, frames)
    for network, module in modules.items():
        uniform = uniform_beside(CONFIG, network).build_method()
        assert isinstance(uniform, Uniform)
        assert uniform.config.resolution == METHOD.networks()[network].resolution
        cut = cut_out(METHOD, network, variables)
        logits = jax.jit(uniform.module().apply)(cut, frames).logits
        np.testing.assert_allclose(logits, separate[module], rtol=1e-6, atol=1e-7)


def test_the_uniform_beside_a_model_has_its_highest_resolution() -> None:
    uniform = uniform_beside(CONFIG)
    assert uniform == uniform_beside(CONFIG, "24px") == uniform_beside(uniform)
    assert not uniform.stages and uniform.data == CONFIG.data
    assert Config.from_dict(uniform.to_dict()) == uniform


def test_choices_are_counted_by_kind_of_frame(tmp_path: Path) -> None:
    folder = tmp_path / "videos" / "test"
    folder.mkdir(parents=True)
    kinds = ["empty", "small", "small", "empty", "large", "empty"]
    annotation = [{"name": "00000", "labels": [0], "kinds": kinds}]
    (folder / "annotations.json").write_text(json.dumps(annotation))
    actions = np.array([[0, 0, 1, 2, 3]])
    index = np.array([[0, 1, 2, 3, 4]])
    predictions = Predictions(
        np.full((1, 3), 1 / 3), np.zeros((1, 1)), np.arange(1), actions, frame_index=index
    )
    evaluation = Evaluation(
        predictions, np.zeros(1), NO_FIGURES, again=lambda _: None, batch_size=1
    )
    found = choices_by_kind(METHOD, evaluation, _OneVideo(), tmp_path)
    assert found.frames_by_kind == {"empty": 2, "large": 1, "small": 2}
    assert found.high_resolution_share == {"empty": 0.5, "large": 0.0, "small": 0.5}
    assert found.ratio == 1.0
