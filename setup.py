"""What of the packaging is found by looking: the packages, configs and dataset builders.

All else stands in pyproject.toml. `configs/` and `datasets/` stand at the top of a checkout. In an
installed package they lie inside `ar_net_jax`, so that nothing named `datasets` or `configs` is
ever put on the import path.
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
    packages=[*find_packages(include=["ar_net_jax", "ar_net_jax.*"]), *SHIPPED_PACKAGES],
    package_dir={"ar_net_jax": "ar_net_jax", **SHIPPED_PACKAGES},
    package_data={
        "ar_net_jax": ["py.typed", "demo/warm_start.safetensors"],
        "ar_net_jax.reporting.page": ["templates/*"],
        # What a dataset builder reads beside its code: README.md, TAGS.txt, CITATIONS.bib.
        **{name: ["*.md", "*.txt", "*.bib", "*.tsv"] for name in SHIPPED_PACKAGES},
    },
    include_package_data=False,
)
