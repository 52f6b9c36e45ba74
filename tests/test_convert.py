"""`arnet convert`: round trips bit for bit, refusals, and nothing written where it fails."""

import functools
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from golden import recipe
from safetensors.numpy import save_file

from ar_net_jax.checkpoints import load_model, save_model
from ar_net_jax.cli.main import main
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.convert import convert
from ar_net_jax.weights.export import load_safetensors
from ar_net_jax.weights.released.convert import import_released
from ar_net_jax.weights.released.export import check_expressible, export_released

SMALL = {"num_classes": 3, "padding": "static", "gflops_convention": "paper"}
POLICY = {
    "backbone": "resnet18",
    "hidden_size": 16,
    "cell_state": "advancing",
    "lowest_head": "hidden",
}
MODELS: dict[str, dict[str, Any]] = {
    "ar_net": {
        "resolutions": (224, 112),
        "backbones": ("efficientnet_b0",),
        "skips": (1, 3),
        "policy": {**POLICY, "backbone": "mobilenet_v2", "resolution": 112},
    },
    "random_policy": {
        "resolutions": (224,),
        "backbones": ("resnet18",),
        "policy": {**POLICY, "is_action": False},
    },
    "multi_scale": {
        "resolutions": (224, 168, 112, 84),
        "backbones": ("resnet18",) * 3,
        "skips": (),
        "policy": POLICY,
    },
    "uniform": {"resolution": 224, "backbone": "resnet18"},
    "lstm": {"resolution": 224, "backbone": "resnet18", "hidden_size": 16},
}


@functools.cache
def _model(method: str) -> tuple[Config, Any]:
    """A config that the authors' code can express, and variables drawn for it."""
    config = Config.from_dict({"method": method, "model": {**SMALL, **MODELS[method]}})
    rng = np.random.default_rng(0)
    shapes = config.build_method().variable_shapes()
    return config, jax.tree.map(lambda x: rng.random(x.shape, np.float32), shapes)


def _assert_same(found: Any, expected: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def _saved(tmp_path: Path, method: str = "uniform") -> Path:
    config, variables = _model(method)
    save_model(tmp_path / "model", variables, config.to_dict())
    return tmp_path / "model"


@pytest.mark.parametrize("method", MODELS)
def test_export_and_import_give_the_same_bits(method: str) -> None:
    config, variables = _model(method)
    state = export_released(config.build_method(), variables)
    assert all(key.startswith("module.") for key in state)
    found = [
        f"--config.model.{field}={MODELS[method][field]}"
        for field in ("resolutions", "skips")
        if method == "ar_net"
    ]
    chosen = method if method in ("ar_net", "random_policy") else None
    again, same = import_released(state, method=chosen, overrides=found)
    _assert_same(same, variables)
    assert (again.method, again.model) == (config.method, config.model)


def test_exported_keys_and_shapes_are_those_of_the_released_file() -> None:
    lines = str(recipe.load("arnet_resnet")["keys"]).splitlines()
    released = dict(line.split("\t") for line in lines)
    hollow = {
        key: np.broadcast_to(np.float32(0), [int(n) for n in sides.split(",") if n])
        for key, sides in released.items()
    }
    config, variables = import_released(hollow, method="ar_net")
    exported = export_released(config.build_method(), variables)
    assert {k: ",".join(map(str, v.shape)) for k, v in exported.items()} == released
    counters = {v.dtype for k, v in exported.items() if k.endswith("num_batches_tracked")}
    assert counters == {np.dtype(np.int64)}


def test_a_model_goes_through_safetensors_unchanged(tmp_path: Path) -> None:
    config, variables = _model("uniform")
    model, file = _saved(tmp_path), tmp_path / "x.safetensors"
    main(["convert", str(model), "--to", str(file)])
    assert load_safetensors(file)[0] == config
    main(["convert", str(file), "--to", str(tmp_path / "again")])
    again, values = load_model(tmp_path / "again")
    _assert_same(again, variables)
    assert Config.from_dict(values) == config
    assert sorted(os.listdir(tmp_path)) == ["again", "model", "x.safetensors"]


def test_a_released_file_without_pytorch(tmp_path: Path, capsys: Any) -> None:
    config, variables = _model("uniform")
    save_file(export_released(config.build_method(), variables), tmp_path / "released.safetensors")
    argv = ["convert", str(tmp_path / "released.safetensors"), "--to", str(tmp_path / "m")]
    main([*argv, "--config.model.resolution=96"])
    assert "Uniform: 96px resnet18; 96 px; 3 classes" in capsys.readouterr().out
    found, values = load_model(tmp_path / "m")
    _assert_same(found, variables)
    assert values["model"]["resolution"] == 96


def test_a_released_file_and_back(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    config, variables = _model("lstm")
    file = tmp_path / "x.pth.tar"
    convert(_saved(tmp_path, "lstm"), file)
    record = torch.load(file, weights_only=True)
    assert set(record) == {"epoch", "arch", "state_dict", "optimizer", "best_prec1"}
    convert(file, tmp_path / "again")
    _assert_same(load_model(tmp_path / "again")[0], variables)


def test_an_imagenet_classifier_becomes_uniform(tmp_path: Path) -> None:
    config, variables = _model("uniform")
    state = {
        key.removeprefix("module.base_model.").replace("module.new_", ""): array
        for key, array in export_released(config.build_method(), variables).items()
    }
    save_file(state, tmp_path / "resnet18.safetensors")
    found = convert(tmp_path / "resnet18.safetensors", tmp_path / "model")
    assert (found.method, found.model.backbone, found.model.num_classes) == (
        "uniform",
        "resnet18",
        3,
    )
    _assert_same(load_model(tmp_path / "model")[0], variables)
    save_file({k: v for k, v in state.items() if k[:2] != "fc"}, tmp_path / "bare.safetensors")
    with pytest.raises(UserError, match="no classifier; .*config.pretrained"):
        convert(tmp_path / "bare.safetensors", tmp_path / "bare")


@pytest.mark.parametrize(
    ("method", "changes", "field"),
    [
        ("ar_net", {"policy": {"cell_state": "frozen"}}, "policy.cell_state"),
        ("ar_net", {"policy": {"lowest_head": "features"}}, "policy.lowest_head"),
        ("ar_net", {"policy": {"backbone": "resnet8_slim"}}, r"\(policy's backbone\)"),
        ("ar_net", {"resize": "antialias"}, "resize"),
        ("ar_net", {"padding": "same"}, "padding"),
        ("ar_net", {"norm": "pytorch"}, "norm"),
        ("ar_net", {"resolutions": (160, 112)}, "resolutions"),
        ("uniform", {"backbone": "mobilenet_v2_0.35"}, r"\(backbone_0's backbone\)"),
    ],
)
def test_what_the_authors_code_cannot_express_is_refused(
    method: str, changes: dict[str, Any], field: str
) -> None:
    config, _ = _model(method)
    check_expressible(config.build_method())
    values = config.to_dict()
    if "policy" in changes:
        changes = {"policy": {**values["model"]["policy"], **changes["policy"]}}
    changed = Config.from_dict({**values, "model": {**values["model"], **changes}})
    with pytest.raises(UserError, match=f"config.model.{field} is .* cannot express"):
        check_expressible(changed.build_method())


def test_fields_that_change_nothing_are_not_refused() -> None:
    values = _model("multi_scale")[0].to_dict()
    values["model"]["policy"]["cell_state"] = "frozen"  # Nothing is ever skipped.
    values["model"]["padding"] = "same"  # There are ResNets only.
    check_expressible(Config.from_dict(values).build_method())


def _fails(capsys: Any, argv: list[str], tmp_path: Path, target: str = "new") -> str:
    """Runs a command that must fail; returns its one line, having seen nothing written."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        main(["convert", *argv, "--to", str(tmp_path / target)])
    assert stopped.value.code == 1
    assert sorted(tmp_path.rglob("*")) == before
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_damaged_files(tmp_path: Path, capsys: Any) -> None:
    config, variables = _model("uniform")
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    save_file(export_released(config.build_method(), variables), whole)
    cut.write_bytes(whole.read_bytes()[:-1000])
    line = _fails(capsys, [str(cut)], tmp_path)
    assert str(cut) in line and "once more" in line
    line = _fails(capsys, [str(whole), "--config.model.num_classes=4"], tmp_path)
    assert "module.new_fc.weight is for 3 classes, but config.model.num_classes is 4" in line
    assert str(whole) in line
    assert "does not fit" in _fails(capsys, [str(whole), "--as=lstm"], tmp_path)
    assert "nowhere" in _fails(capsys, [str(tmp_path / "nowhere.pth.tar")], tmp_path)


def test_damaged_and_unsafe_pickles(tmp_path: Path, capsys: Any) -> None:
    torch = pytest.importorskip("torch")
    unsafe, cut = tmp_path / "unsafe.pth.tar", tmp_path / "cut.pth.tar"

    class Unsafe:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "run"),)

    torch.save({"state_dict": {"module.new_fc.bias": Unsafe()}}, unsafe)
    assert "none of it was run" in _fails(capsys, [str(unsafe)], tmp_path)
    torch.save({"state_dict": {"module.new_fc.bias": torch.zeros(5000)}}, cut)
    cut.write_bytes(cut.read_bytes()[:9000])
    assert not zipfile.is_zipfile(cut)
    assert "truncated or damaged" in _fails(capsys, [str(cut)], tmp_path)


def test_unsuitable_targets(tmp_path: Path, capsys: Any) -> None:
    model = str(_saved(tmp_path))
    work = tmp_path / "work"
    (work / "variables").mkdir(parents=True)
    (work / "config.json").write_text("{}")
    (work / "history").mkdir()
    assert "something else" in _fails(capsys, [model], tmp_path, "work")
    assert "is a file" in _fails(capsys, [model], tmp_path, "work/config.json")
    assert "x.pth.tar" in _fails(capsys, [model], tmp_path, "x.pth")
    assert "no folder" in _fails(capsys, [model], tmp_path, "none/x.safetensors")
    line = _fails(capsys, [model, "--config.model.backbone=resnet18_slim"], tmp_path, "x.pth.tar")
    assert "resnet18_slim" in line


def test_a_model_is_held_against_overrides(tmp_path: Path, capsys: Any) -> None:
    model = str(_saved(tmp_path))
    line = _fails(capsys, [model, "--config.model.num_classes=7"], tmp_path)
    assert "backbone_0/head" in line and "7" in line
    main(["convert", model, "--to", str(tmp_path / "small"), "--config.model.resolution=96"])
    values = json.loads((tmp_path / "small" / "config.json").read_text())
    assert values["model"]["resolution"] == 96
