"""Every shipped config, in every variant: valid, buildable, and able to take a training step."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ar_net_jax.config.files import config_path, shipped_configs
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.runtime.mesh import make_mesh
from ar_net_jax.training.program import build_program
from ar_net_jax.training.state import TrainState


def _variants(name: str) -> list[str]:
    namespace: dict = {}
    exec(config_path(name).read_text(), namespace)
    # Packages carry weights of some backbones only.
    alone = {"packaged": "lite,packaged"}
    return ["", *(alone.get(variant, variant) for variant in namespace["VARIANTS"])]


SPECS = [f"{name}:{v}".rstrip(":") for name in shipped_configs() for v in _variants(name)]
# The data sets share their variants, so the model of each variant is built for one of them.
BUILT = [s for s in SPECS if s.startswith(("activitynet", "demo")) or ":" not in s]


def _shrunk(config: Config, *, keep_backbones: bool = False) -> Config:
    """The same set-up at a small size: resolutions, and unless kept, backbones."""
    values = config.to_dict()
    model = values["model"]
    model["num_classes"] = 4
    tiny = "resnet8_tiny"
    if "hidden_size" in model:
        model["hidden_size"] = 8
    if "resolution" in model:
        model["resolution"] = 24
    for field in ("sampler_resolution", "glance_resolution", "crop"):
        if field in model:
            model[field] = 16
    for field in ("policy_hidden", "spatial_hidden", "temporal_hidden", "smallest"):
        if field in model:
            model[field] = 8
    if "preview_resolution" in model:
        model.update(preview_resolution=16, attention_width=8)
    if "resolutions" in model:
        count, policy = len(model["resolutions"]), model["policy"]
        model["resolutions"] = tuple(range(16 + 8 * (count - 1), 15, -8))
        lowest = model["resolutions"][-1] if policy["is_action"] else 16
        policy.update(resolution=lowest, hidden_size=8)
        if not keep_backbones:
            policy["backbone"] = tiny
            model["backbones"] = (tiny,) * len(model["backbones"])
    if not keep_backbones:
        for field in ("backbone", "sampler_backbone", "preview_backbone", "glance_backbone"):
            if field in model:
                model[field] = tiny
    values["pretrained"]["weights"] = {}
    return Config.from_dict(values)


def _fake(path: tuple, shape: jax.ShapeDtypeStruct) -> np.ndarray:
    """A variable that need not be drawn by a compiled program, which takes seconds."""
    if path[-1].key in ("var", "scale"):
        return np.ones(shape.shape, np.float32)
    return np.random.default_rng(0).normal(0, 0.1, shape.shape).astype(np.float32)


def _prepare_step(config: Config, name: str) -> tuple[Callable, TrainState, dict]:
    """The training step of a stage, a state for it and a fake batch."""
    method, stage = config.build_method(), config.stages[name]
    size = method.image_size
    rng = np.random.default_rng(0)
    batch = {
        "frames": rng.integers(0, 256, (2, 3, size, size, 3), np.uint8),
        "labels": np.array([[1, -1], [0, 3]], np.int32),
        "example_id": np.arange(2, dtype=np.int32),
        "epoch": np.zeros(2, np.int32),
    }
    shapes = jax.eval_shape(lambda key: method.initial_variables(key, stage), jax.random.key(0))
    variables = jax.tree_util.tree_map_with_path(_fake, shapes)
    index = config.stage_order.index(name)
    program = build_program(config, index, variables["params"], make_mesh(), steps_per_epoch=10)
    return program.step, TrainState.create(variables, program.optimizer), batch


def _take_step(config: Config, name: str) -> None:
    """One training step of a stage; the loss must be finite, the weights move."""
    step, before, batch = _prepare_step(config, name)
    # The step gives its state's memory away.
    params = jax.tree.map(np.array, before.params)
    state, metrics = step(before, batch)
    assert np.isfinite(float(metrics["loss"])), name
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.params, params)
    assert any(jax.tree.leaves(moved)), name


@pytest.mark.parametrize("spec", SPECS)
def test_config_is_valid(spec: str) -> None:
    config = load_config(spec)
    assert Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("spec", BUILT)
def test_model_of_a_config_has_shapes_and_costs(spec: str) -> None:
    config = load_config(spec)
    method = config.build_method()
    shapes = method.variable_shapes()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes["params"]))
    assert method.choice_gflops()[0] > 0


# Half a minute each: by default one of them, and `test_loop` trains the others' stages.
@pytest.mark.parametrize(
    "spec",
    [
        s if s == "demo:quick" else pytest.param(s, marks=pytest.mark.slow)
        for s in BUILT
        if s.startswith("demo")
    ],
)
def test_demo_takes_a_training_step_at_a_small_size(spec: str) -> None:
    config = _shrunk(load_config(spec))
    # The stages are the same throughout; variants change the model or the loss.
    for name in config.stage_order if spec == "demo" else config.stage_order[-1:]:
        _take_step(config, name)


# What another default traces too: the same method with other weights, losses, stages or data.
LIKE_ANOTHER = (
    "accuracy_efficiency",
    "accuracy_only",
    "frameexit_confidence",
    "imagenet",
    "joint_only",
    "no_finetune",
    "paper_loss",
    "released_loss",
    "resnet",
    "resolution_only",
    "scsampler_ranking",
    "fcvid",
    "mini_kinetics",
)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(s, marks=[pytest.mark.slow] * s.endswith(LIKE_ANOTHER))
        for s in BUILT
        if not s.startswith("demo")
    ],
)
def test_every_other_config_has_a_training_step(spec: str) -> None:
    """Traced, not compiled: seconds a config, and what differs is in the trace."""
    config = _shrunk(load_config(spec))
    step, state, batch = _prepare_step(config, config.stage_order[-1])
    _, metrics = jax.eval_shape(step, state, batch)
    assert metrics["loss"].shape == ()


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["activitynet", "activitynet:efficientnet"])
def test_config_takes_a_training_step_with_its_own_backbones(spec: str) -> None:
    config = _shrunk(load_config(spec), keep_backbones=True)
    _take_step(config, "joint")


def test_an_unknown_config_or_variant_is_named() -> None:
    with pytest.raises(UserError, match="did you mean 'activitynet'"):
        load_config("activitinet")
    with pytest.raises(UserError, match="no variant 'unifrom'"):
        load_config("activitynet:unifrom")
    with pytest.raises(UserError, match="no such file"):
        load_config("missing/config.py")


def test_a_misspelt_override_is_named() -> None:
    with pytest.raises(UserError, match="batchsize"):
        load_config("demo", ["--config.data.batchsize=3"])
    assert load_config("demo", ["--config.data.batch_size=3"]).data.batch_size == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", r"invalid syntax .*own.py, line 1"),
        ("import nothing_by_this_name", "No module named 'nothing_by_this_name'"),
    ],
)
def test_a_config_file_that_cannot_be_read_is_named(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_config(str(path))


@pytest.mark.parametrize("name", ["uniform", "lstm", "random_policy", "multi_scale"])
def test_baselines_warm_up_unless_they_start_from_what_is_warm(name: str) -> None:
    for config in ("demo", "video_folder"):
        assert load_config(f"{config}:{name}").stage_order[0] == "warmup"
    assert load_config(f"demo:warm_start,{name}").stage_order == ("joint",)
