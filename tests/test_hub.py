"""Models to the hub and back, through a stand-in for its HTTP interface."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
import saved_models
import yaml
from hub_stand_in import TOKEN, Hub, running_hub
from safetensors import safe_open

import ar_net_jax
from ar_net_jax.checkpoints import save_model
from ar_net_jax.cli.main import main
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.convert import convert
from ar_net_jax.publish.push import fill_repository, push_model
from ar_net_jax.weights.hub import parse_address

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("a b", "```<script>", "c", "d")
CONFIG = {
    "model": saved_models.AR_NET | {"skips": (1,)},
    "data": {"name": "embedded", "num_frames": 4, "data_dir": "/secret/place"},
    "class_names": CLASSES,
}
FIGURES = {
    "mAP": 71.25, "mAP_first_label": 71.25, "top1": 66.0, "top5": 99.0, "gflops_per_frame": 0.1,
    "gflops_per_video": 0.4, "gflops_convention": "macs", "usage": None,
    "executed_gflops_per_video": 0.4, "routing": "routed", "cost_penalty": 0.0, "num_frames": 4,
    "num_videos": 9,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a training that was evaluated in two settings."""
    folder = tmp_path_factory.mktemp("run")
    config = Config.from_dict(CONFIG)
    rng = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        return (rng.random(leaf.shape) + 0.5).astype(leaf.dtype)

    variables = jax.tree.map(draw, config.build_method().variable_shapes())
    save_model(folder / "model", variables, config.to_dict())
    rows = [
        {"method": "AR-Net", "role": "adaptive", **FIGURES},
        {"method": "AR-Net, penalty 1", "role": "adaptive", **FIGURES, "gflops_per_video": 0.2},
    ]
    (folder / "evaluation_test.json").write_text(json.dumps({"results": rows, "split": "test"}))
    (folder / "data.json").write_text(json.dumps({"splits": {"train": {"videos": 123}}}))
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    with running_hub() as hub:
        # Both were made from HF_ENDPOINT when they were imported.
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        files = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def test_what_was_pushed_is_loaded_as_it_was(run: Path, hub: Hub) -> None:
    page = push_model(run, "hf://me/small", "mit")
    assert page.endswith("/me/small")
    names = {"README.md", "config.json", "model.safetensors", "curve.png"}
    assert set(hub.files["me/small"]) == names
    loaded, own = ar_net_jax.load("hf://me/small"), ar_net_jax.load(run)
    assert loaded.config.class_names == CLASSES
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, own.variables)
    # Of all files only the model's is asked for.
    reads = {path.split("?")[0] for kind, path in hub.asked if kind in ("GET", "HEAD")}
    assert {path for path in reads if "resolve" in path} == {
        "/me/small/resolve/main/model.safetensors"
    }


def test_a_model_on_the_hub_can_be_converted_and_started_from(
    run: Path, hub: Hub, tmp_path: Path
) -> None:
    push_model(run, "me/small", "mit")
    convert("hf://me/small", tmp_path / "own")
    kept = ar_net_jax.load(tmp_path / "own")
    assert kept.config.data.data_dir == "" and kept.config.class_names == CLASSES


def test_it_is_read_from_the_cache_where_the_hub_is_away(
    run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    push_model(run, "hf://me/small", "mit")
    ar_net_jax.load("hf://me/small")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert ar_net_jax.load("hf://me/small").config.class_names == CLASSES
    with pytest.raises(UserError, match="hf://me/other: the hub cannot be reached"):
        ar_net_jax.load("hf://me/other")


def test_names_of_folders_stay_here(run: Path, tmp_path: Path) -> None:
    fill_repository(tmp_path, run, "hf://me/small", "mit")
    for path in tmp_path.iterdir():
        assert b"/secret" not in path.read_bytes()
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        assert json.loads(file.metadata()["config"]) == json.loads(
            (tmp_path / "config.json").read_text()
        )


def test_the_card_tells_of_the_run(run: Path, tmp_path: Path) -> None:
    fill_repository(tmp_path, run, "hf://me/small", "cc-by-4.0")
    card = (tmp_path / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    told = yaml.safe_load(head)
    assert told["license"] == "cc-by-4.0" and told["library_name"] == "ar_net_jax"
    (index,) = told["model-index"]
    values = {metric["value"] for result in index["results"] for metric in result["metrics"]}
    assert values == {71.25, 66.0}
    assert 'ar_net_jax.load("hf://me/small")' in body
    assert "| AR-Net, penalty 1 |" in body and "71.2" in body  # Half to even.
    assert "123 of train" in body and "![" in body and "4 classes" in body
    method = Config.from_dict(CONFIG).build_method()
    for name, cost in zip(method.choices.names, method.choice_gflops("macs")):
        assert f"| {name}" in body and f"{cost:.4g}" in body
    # A class's name does not end the list of classes.
    start = body.index("````\n")
    assert body[start + 5 : body.index("````", start + 5)] == "\n".join(CLASSES) + "\n"


def test_a_model_without_a_run_has_a_card_too(run: Path, tmp_path: Path) -> None:
    convert(run, tmp_path / "alone.safetensors")
    (tmp_path / "out").mkdir()
    names = fill_repository(tmp_path / "out", tmp_path / "alone.safetensors", "me/x", "mit")
    assert names == ["README.md", "config.json", "model.safetensors"]
    assert "was not evaluated" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("hf://me/none", "there is no such model"),
        ("hf://me/empty", "holds no model.safetensors"),
        ("hf://me/foreign", "no model of this package"),
        ("hf://me/small@v9", "has no revision 'v9'"),
        ("hf://me", "not the address of a model"),
        ("hf://me/a/b", "not the address of a model"),
        ("hf://me/../b", "not the address of a model"),
        ("hf://me/a@", "not the address of a model"),
    ],
)
def test_what_cannot_be_loaded_is_told(run: Path, hub: Hub, address: str, told: str) -> None:
    foreign = safetensors.numpy.save({"x": np.zeros(3, np.float32)})
    hub.files |= {"me/empty": {}, "me/foreign": {"model.safetensors": foreign}}
    hub.files["me/small"] = {"model.safetensors": b""}
    with pytest.raises(UserError, match=told):
        ar_net_jax.load(address)


def test_private_models_want_the_token(
    run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_model(run, "hf://me/small", "mit", private=True)
    assert hub.private == {"me/small"}
    with monkeypatch.context() as other:
        other.setenv("HF_TOKEN", "hf_somebody_else")
        with pytest.raises(UserError, match="not open to you"):
            ar_net_jax.load("hf://me/small")
        with pytest.raises(UserError, match="cannot be written"):
            push_model(run, "hf://me/small", "mit")
    assert ar_net_jax.load("hf://me/small").config.class_names == CLASSES


def test_without_a_token_nothing_is_begun(
    run: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match="hf auth login"):
        push_model(run, "hf://me/small", "mit")
    assert hub.asked == []


def test_a_revision_cannot_be_written() -> None:
    with pytest.raises(UserError, match="a revision can be read, not written"):
        push_model("nowhere", "hf://me/small@main", "mit")
    assert parse_address("hf://me/small@refs/pr/1").revision == "refs/pr/1"


def test_a_preview_publishes_nothing(
    run: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "card"
    main(["push", str(run), "hf://me/small", "--license=mit", f"--preview={out}"])
    assert "would be published: README.md" in capsys.readouterr().out
    assert hub.asked == [] and (out / "README.md").exists()


def test_the_command_goes_where_the_environment_says(run: Path, tmp_path: Path) -> None:
    with running_hub() as hub:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "ar_net_jax", "push", str(run), "hf://me/small"]
        done = subprocess.run(
            [*command, "--license=mit"], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("published: ")
        assert "model.safetensors" in hub.files["me/small"]
