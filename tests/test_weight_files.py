"""Files of weights: read as data alone, found in folders or on the hub, or refused."""

from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from safetensors.numpy import save_file

from ar_net_jax.errors import UserError
from ar_net_jax.weights import sources
from ar_net_jax.weights.files import read_state
from ar_net_jax.weights.sources import locate


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    save_file({"x": np.ones(100, np.float32)}, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    np.testing.assert_array_equal(read_state(tmp_path / "whole.safetensors")["x"], np.ones(100))
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "x.h5").write_bytes(b"x")
    (tmp_path / "x.pth").write_bytes(b"x")
    for name, message in {
        "half.safetensors": "half.safetensors: truncated or damaged .*get the file once more",
        "none.pth": "none.pth: no such file",
        "x.h5": "x.h5: unknown kind of file; weights are read from .pth, ",
        "x.pth": "x.pth: truncated, or not written by torch.save; nothing in it was run",
    }.items():
        with pytest.raises(UserError, match=message):
            read_state(tmp_path / name)


@pytest.mark.parity
@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_pytorch_old_and_new(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pth.tar"
    state = {"x": torch.arange(6.0).reshape(2, 3), "half": torch.ones(2, dtype=torch.bfloat16)}
    record = {"epoch": 1, "best_prec1": np.float64(73.8), "state_dict": state}
    torch.save(record, path, _use_new_zipfile_serialization=zipped)
    found = read_state(path)
    np.testing.assert_array_equal(found["x"], np.arange(6.0).reshape(2, 3))
    assert found["half"].dtype == np.float32
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="truncated"):
        read_state(path)


def test_a_package_of_weights_is_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("site-packages/x/models/x-0123abcd.pth")
    monkeypatch.setattr(sources, "locate_package_weights", {"package:x": path}.__getitem__)
    assert locate("package:x", folder="not looked at") == (path, "x-0123abcd.pth", {})


def test_a_folder_serves_hub_names_in_two_forms(tmp_path: Path) -> None:
    (tmp_path / "a.x.safetensors").write_bytes(b"")
    (tmp_path / "b.y").mkdir()
    (tmp_path / "b.y" / "model.safetensors").write_bytes(b"")
    (tmp_path / "b.y" / "config.json").write_text('{"architecture": "b"}')
    assert locate("timm/a.x", str(tmp_path)) == (tmp_path / "a.x.safetensors", "a.x", {})
    found = locate("timm/b.y", str(tmp_path))
    assert found == (tmp_path / "b.y" / "model.safetensors", "b.y", {"architecture": "b"})
    assert locate("b.y/model.safetensors", str(tmp_path)) == found
    assert locate(str(tmp_path / "a.x.safetensors")).name == "a.x.safetensors"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "timm/resnet50.tv_in1k",
            r"FOLDER/resnet50.tv_in1k.safetensors: no such file .*get it from "
            "https://huggingface.co/timm/resnet50.tv_in1k/resolve/main/model.safetensors",
        ),
        (
            "resnet50-0676ba61.pth",
            "FOLDER/resnet50-0676ba61.pth: no such file; .*https://download.pytorch.org/models/"
            "resnet50-0676ba61.pth",
        ),
        ("efficientnet-b3-5fb5a3c3.pth", "https://github.com/lukemelas/EfficientNet-PyTorch/"),
        ("mine.safetensors", "no such file; give a file that exists"),
        (
            "resnet50",
            "'resnet50' is neither a .* file, nor a name on the Hugging Face hub .*package:NAME",
        ),
    ],
)
def test_a_missing_file_says_where_to_get_it(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("FOLDER", str(tmp_path))):
        locate(source, str(tmp_path))


def test_hub_names_are_downloaded_with_their_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    asked = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    found = locate("timm/resnet18.tv_in1k")
    assert (found.name, found.card) == ("resnet18.tv_in1k", {"architecture": "resnet18"})
    assert {repository for repository, _ in asked} == {"timm/resnet18.tv_in1k"}


def test_without_network_the_message_says_how_to_do_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: str) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(UserError, match="no network.*resnet18.x.safetensors.*pretrained.folder="):
        locate("timm/resnet18.x")
