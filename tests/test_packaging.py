"""A built wheel, installed elsewhere: what it holds, and that it works from any folder."""

import email
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

import ar_net_jax

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHIPPED = ("configs", "datasets")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The wheel of this checkout, built from a copy: a build leaves files behind."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path_factory.mktemp("source") / "ar_net_jax"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    for name in ("ar_net_jax", *SHIPPED):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    built = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", built, source], check=True)
    (path,) = built.glob("*.whl")
    return path


def test_every_module_config_and_builder_travels(wheel: pathlib.Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    templates = ROOT / "ar_net_jax" / "reporting" / "page" / "templates"
    assert {path.relative_to(ROOT).as_posix() for path in templates.iterdir()} <= names
    for name in ("ar_net_jax", *SHIPPED):
        for source in (ROOT / name).rglob("*.py"):
            below = source.relative_to(ROOT).as_posix()
            assert (below if name == "ar_net_jax" else f"ar_net_jax/{below}") in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ar_net_jax"}


def test_metadata_and_types_travel(wheel: pathlib.Path) -> None:
    archive = zipfile.ZipFile(wheel)
    assert {"ar_net_jax/py.typed", "ar_net_jax/demo/warm_start.safetensors"} <= set(
        archive.namelist()
    )
    folder = f"ar_net_jax-{ar_net_jax.__version__}.dist-info"
    metadata = email.message_from_bytes(archive.read(f"{folder}/METADATA"))
    assert metadata["Version"] == ar_net_jax.__version__
    extras = set(metadata.get_all("Provides-Extra"))
    assert extras == {
        *("beam", "browser", "cuda12", "cuda13", "dev", "docs", "gcs", "onnx", "parity"),
        *("test", "torch", "tpu", "weights"),
    }
    assert "arnet = ar_net_jax.cli.main:main" in archive.read(f"{folder}/entry_points.txt").decode()


def test_installed_wheel_finds_its_folders_from_anywhere(
    wheel: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    # Somebody else's top-level package of the same name, as Hugging Face's.
    (tmp_path / "site" / "datasets").mkdir()
    (tmp_path / "site" / "datasets" / "__init__.py").write_text("OWNER = 'somebody else'\n")
    program = (
        "import datasets, pathlib\n"
        "from ar_net_jax.config.shipped import shipped_dir\n"
        "print(datasets.OWNER)\n"
        "print(*(shipped_dir(name) for name in ('configs', 'datasets')), sep='\\n')\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    package = tmp_path / "site" / "ar_net_jax"
    assert printed == ["somebody else", str(package / "configs"), str(package / "datasets")]
