"""ImageNet weights from files and the hub into a run: names, settings, order, refusals."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from golden.imagenet import draw_backbone
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ar_net_jax import backbones
from ar_net_jax.backbones.layouts import Entry, from_flax, to_flax
from ar_net_jax.backbones.mbconv import norm_settings
from ar_net_jax.cli.main import main
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, load_config
from ar_net_jax.runtime import mesh as devices
from ar_net_jax.training.stage import starting_variables
from ar_net_jax.weights.files import read_state
from ar_net_jax.weights.imagenet import (
    detect_layout,
    import_backbone,
    trained_with,
    variable_shapes,
)
from ar_net_jax.weights.pretrained import pretrained_variables
from ar_net_jax.weights.sources import Weights

State = dict[str, np.ndarray]

# --- Names --------------------------------------------------------------------------------------


# Like B0 and B1, but for their size.
LARGER = tuple(f"efficientnet_b{i}" for i in range(2, 6))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in LARGER))
        for name in (*backbones.names(), "mobilenet_v2_0.35")
    ],
)
def test_a_layout_names_every_variable_once(name: str) -> None:
    for layout in backbones.get(name).layouts():
        entries = backbones.get(name).entries(layout)
        paths = [(entry.collection, *entry.path) for entry in entries]
        assert len(set(paths)) == len(paths)
        assert set(paths) == set(variable_shapes(name))
        assert len({entry.source for entry in entries}) == len(entries)


@pytest.mark.parametrize(
    ("name", "layout", "source", "path"),
    [
        ("resnet34", "torchvision", "layer2.0.downsample.1.bias", "layer2_0/downsample_1/bias"),
        ("mobilenet_v2", "torchvision", "features.1.conv.1.weight", "features_1/conv_1/kernel"),
        ("mobilenet_v2", "torchvision_old", "features.1.conv.3.weight", "features_1/conv_1/kernel"),
        ("mobilenet_v2", "torchvision_old", "features.2.conv.7.bias", "features_2/conv_3/bias"),
        ("mobilenet_v2", "timm", "blocks.1.0.conv_dw.weight", "features_2/conv_1_0/kernel"),
        ("efficientnet_b0", "timm", "blocks.0.0.conv_pw.weight", "blocks_0/project_conv/kernel"),
        ("efficientnet_b0", "timm", "blocks.1.0.conv_pw.weight", "blocks_1/expand_conv/kernel"),
        ("efficientnet_b0", "torchvision", "features.8.1.running_var", "bn1/var"),
        ("efficientnet_b3", "efficientnet_pytorch", "_blocks.9._bn2.weight", "blocks_9/bn2/scale"),
        ("efficientnet_lite1", "timm", "blocks.6.0.bn3.bias", "blocks_20/bn2/bias"),
    ],
)  # fmt: skip
def test_well_known_keys(name: str, layout: str, source: str, path: str) -> None:
    entries = {entry.source: entry for entry in backbones.get(name).entries(layout)}
    assert "/".join(entries[source].path) == path


@given(
    kind=st.sampled_from(["conv", "depthwise", "linear", "vector"]),
    sides=st.tuples(*[st.integers(1, 4)] * 4),
    dtype=st.sampled_from([np.float32, np.float16]),
)
def test_reordering_axes_is_undone_to_the_bit(kind: str, sides: tuple, dtype: type) -> None:
    shape = sides[: {"linear": 2, "vector": 1}.get(kind, 4)]
    array = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    entry = Entry("x", "params", ("x",), kind)
    back = from_flax(entry, to_flax(entry, array))
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    "name", ["resnet10_slim", "mobilenet_v2", "efficientnet_b0", "efficientnet_lite0"]
)
def test_importing_is_undone_to_the_bit_in_every_layout(name: str) -> None:
    for layout in backbones.get(name).layouts():
        state = draw_backbone(name, layout)
        counters = {f"{key}.num_batches_tracked": np.array(3) for key in ("bn1", "layer1.0.bn1")}
        head = backbones.get(name).layout(layout).classifier
        classifier = {f"{head}.weight": np.ones((1000, 4)), f"{head}.bias": np.ones(1000)}
        flat = flatten_dict(import_backbone(name, {**state, **counters, **classifier}))
        for entry in backbones.get(name).entries(layout):
            back = from_flax(entry, flat[entry.collection, *entry.path])
            assert back.tobytes() == state[entry.source].tobytes()


# --- State dictionaries that do not fit ---------------------------------------------------------


def _without(state: State, key: str) -> State:
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: _without(s, "layer1.0.conv1.weight"),
            "miss layer1.0.conv1.weight; give weights of resnet8_tiny, or change the back",
        ),
        (lambda s: {**s, "layer9.x": np.ones(1)}, "have besides layer9.x"),
        (
            lambda s: {**s, "bn1.weight": np.ones(9, np.float32)},
            r"bn1.weight has the shape \(9,\), expected \(8,\); give weights of resnet8_tiny",
        ),
        (lambda s: {**s, "bn1.weight": np.ones(8, np.int8)}, "bn1.weight holds int8"),
        (lambda s: {"encoder.w": np.ones(1)}, r"no key is one of .*\(the first are: encoder.w\)"),
        (lambda s: draw_backbone("resnet14_slim", "timm"), "have besides layer1.1.conv1.weight"),
    ],
)
def test_what_is_not_the_backbones_is_refused(change: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_backbone("resnet8_tiny", change(draw_backbone("resnet8_tiny", "timm")))


# --- Settings that weights were trained with ----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layout", "origin", "paddings", "norm"),
    [
        ("efficientnet_b3", "timm", "tf_efficientnet_b3.aa_in1k", ("same", "static"), "tensorflow"),
        ("efficientnet_b0", "timm", "efficientnet_b0.ra_in1k", ("symmetric",), "pytorch"),
        ("efficientnet_b0", "efficientnet_pytorch", "x.pth", ("static", "same"), "tensorflow"),
        ("efficientnet_b4", "torchvision", "x.pth", ("symmetric",), "pytorch"),
        ("efficientnet_b5", "torchvision", "x.pth", ("symmetric",), "tensorflow"),
        ("efficientnet_lite0", "timm", "tf_efficientnet_lite0.x", ("same", "static"), "tensorflow"),
        ("efficientnet_lite2", "efficientnet_pytorch", "x.pth", ("same", "static"), "tensorflow"),
    ],
)  # fmt: skip
def test_settings_follow_the_source(
    name: str, layout: str, origin: str, paddings: tuple[str, ...], norm: str
) -> None:
    assert trained_with(name, layout, Weights(Path("x"), origin, {})) == (paddings, norm)
    card = {"architecture": origin.split(".")[0]}
    assert trained_with(name, layout, Weights(Path("x"), "y", card)) == (paddings, norm)


def test_norm_settings() -> None:
    assert norm_settings("tensorflow") == {"momentum": 0.99, "epsilon": 1e-3}
    assert norm_settings("pytorch") == {"momentum": 0.9, "epsilon": 1e-5}
    with pytest.raises(ValueError, match=r"'group'.*tensorflow, pytorch"):
        norm_settings("group")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (Weights(Path("m.safetensors"), "m", {}), "m.safetensors: timm has two kinds of Eff"),
        (Weights(Path("x"), "tf_efficientnet_b0.ap_in1k", {}), "normalised otherwise than here"),
        (
            Weights(Path("x"), "efficientnet_b0", {"pretrained_cfg": {"mean": [0.5] * 3}}),
            r"\(mean \[0.485, 0.456, 0.406\]",
        ),
    ],
)
def test_weights_that_would_compute_something_else_are_refused(
    weights: Weights, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        trained_with("efficientnet_b0", "timm", weights)


def _on_the_hub(name: str) -> bool:
    return bool(backbones.get(name).imagenet_weights)


@pytest.mark.parity
def test_timm_has_the_recommended_weights_and_trained_them_so() -> None:
    from golden.libraries import import_torchvision

    import_torchvision()
    timm = pytest.importorskip("timm")
    for name in filter(_on_the_hub, backbones.names()):
        source = backbones.get(name).imagenet_weights
        card = timm.get_pretrained_cfg(source.removeprefix("timm/"))
        assert card is not None, source
        weights = Weights(Path("x"), source.removeprefix("timm/"), {"pretrained_cfg": vars(card)})
        trained_with(name, "timm", weights)


# --- In a run -----------------------------------------------------------------------------------


def _config(folder: Path, **sources: str) -> Config:
    model = {
        "num_classes": 3,
        "resolutions": (24, 16),
        "backbones": ("resnet8_slim",),
        "skips": (2,),
        "policy": {"backbone": "resnet8_tiny", "resolution": 16, "hidden_size": 8},
    }
    stages = {"joint": {"epochs": 1, "losses": {"accuracy": {"weight": 1.0}}}}
    values = {"model": model, "stages": stages, "stage_order": ("joint",)}
    weights = {"backbone_0": "slim.safetensors", "policy": "timm/tiny", **sources}
    pretrained = {"weights": weights, "folder": str(folder)}
    return Config.from_dict({**values, "pretrained": pretrained})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file(draw_backbone("resnet8_slim", "timm"), tmp_path / "slim.safetensors")
    save_file(draw_backbone("resnet8_tiny", "timm"), tmp_path / "tiny.safetensors")
    return tmp_path


def test_a_stage_starts_from_earlier_then_imported_then_drawn_variables(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(folder)
    method = config.build_method()
    # Drawing takes long to compile.
    drawn = jax.tree.map(
        lambda leaf: np.full(leaf.shape, 0.25, np.float32), method.variable_shapes()
    )
    monkeypatch.setattr(type(method), "initial_variables", lambda *args: drawn)
    earlier = {"params": {"policy": {"backbone": {"bn1": {"bias": np.full(8, 7.0, np.float32)}}}}}
    mesh = devices.make_mesh()
    variables = jax.device_get(starting_variables(config, 0, earlier, mesh, resuming=False))
    for name, part in (("slim", "backbone_0"), ("tiny", "policy")):
        expected = import_backbone(f"resnet8_{name}", read_state(folder / f"{name}.safetensors"))
        for collection in expected:
            found = flatten_dict(variables[collection][part]["backbone"])
            for path, array in flatten_dict(expected[collection]).items():
                overruled = (part, *path) == ("policy", "bn1", "bias")
                np.testing.assert_array_equal(found[path], 7.0 if overruled else array)
    assert (variables["params"]["backbone_0"]["head"]["kernel"] == 0.25).all()
    for path in folder.glob("*.safetensors"):
        path.unlink()
    starting_variables(config, 0, earlier, mesh, resuming=True)


def test_nothing_named_imports_nothing() -> None:
    assert pretrained_variables(Config()) is None


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"policy": "gone.safetensors"}, r"pretrained.weights.policy: .*gone.safetensors: no such"),
        ({"backbone_0": "timm/tiny"}, r"pretrained.weights.backbone_0: .* has the shape"),
        ({"backbone_0": "package:"}, r"pretrained.weights.backbone_0: .* names no package"),
    ],
)
def test_a_fault_names_the_field(folder: Path, sources: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=f"config.{message}"):
        pretrained_variables(_config(folder, **sources))


def test_weights_of_no_module_cannot_be_given(folder: Path) -> None:
    message = r"config.pretrained.weights.backbone_1: .* it has backbone_0, policy"
    with pytest.raises(UserError, match=message):
        _config(folder, backbone_1="slim.safetensors")


def test_settings_of_the_model_that_do_not_go_with_the_weights(tmp_path: Path) -> None:
    save_file(
        draw_backbone("efficientnet_b0", "timm"), tmp_path / "efficientnet_b0.ra_in1k.safetensors"
    )
    model = {"resolution": 64, "backbone": "efficientnet_b0"}
    weights = {"backbone_0": "timm/efficientnet_b0.ra_in1k"}

    def variables(**fields: str) -> Any:
        pretrained = {"weights": weights, "folder": str(tmp_path)}
        values = {"method": "uniform", "model": {**model, **fields}, "pretrained": pretrained}
        return pretrained_variables(Config.from_dict(values))

    with pytest.raises(UserError, match="set --config.model.padding=symmetric"):
        variables()
    with pytest.raises(UserError, match="set --config.model.norm=pytorch"):
        variables(padding="symmetric")
    assert variables(padding="symmetric", norm="pytorch")["params"]["backbone_0"]["backbone"]


def test_the_job_refuses_a_missing_file_before_it_prepares_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "videos"
    for name in ("train/run", "train/walk", "validation/run"):
        (videos / name).mkdir(parents=True)
        (videos / name / "0.mp4").write_bytes(b"no video: to decode it would be another error")
    argv = ["train", "--config=video_folder:imagenet", f"--workdir={tmp_path / 'run'}", "--quiet"]
    with pytest.raises(SystemExit) as stopped:
        main(
            [*argv, f"--config.pretrained.folder={tmp_path}", f"--config.data.source_dir={videos}"]
        )
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert "config.pretrained.weights.backbone_0" in message
    assert "https://huggingface.co/timm/resnet50.tv_in1k" in message


def test_the_variant_names_weights_of_every_backbone() -> None:
    slim = {name for name in backbones.names() if name.endswith("slim") or name == "resnet8_tiny"}
    assert set(filter(_on_the_hub, backbones.names())) == set(backbones.names()) - slim
    assert load_config("fcvid:efficientnet,released,imagenet").pretrained.weights == {
        "backbone_0": "timm/tf_efficientnet_b3.aa_in1k",
        "backbone_1": "timm/tf_efficientnet_b1.aa_in1k",
        "backbone_2": "timm/tf_efficientnet_b0.aa_in1k",
        "policy": "timm/mobilenetv2_100.ra_in1k",
    }
    assert set(load_config("activitynet:uniform,imagenet").pretrained.weights) == {"backbone_0"}
    assert not any(load_config("activitynet").pretrained.weights.values())
    with pytest.raises(UserError, match="variant 'packaged': no such weights of resnet50 are kno"):
        load_config("video_folder:packaged")


def test_layouts_are_told_apart() -> None:
    for name in ("mobilenet_v2", "efficientnet_b2", "efficientnet_lite2"):
        for layout in backbones.get(name).layouts():
            keys = {entry.source for entry in backbones.get(name).entries(layout)}
            assert detect_layout(name, keys) == layout
