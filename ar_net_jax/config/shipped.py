"""Finds the folders that travel with the package: configs and data set builders."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_dir(name: str) -> Path:
    """Where a shipped folder lies.

    Args:
        name: "configs" or "datasets".

    Returns:
        The folder inside the package (an installed wheel), else the one beside it (a checkout).

    Raises:
        FileNotFoundError: neither is there.
    """
    for parent in (_PACKAGE, _PACKAGE.parent):
        # A top-level `datasets` may also be another project's; only a folder of files is ours.
        candidate = parent / name
        if candidate.is_dir() and not (candidate / "__init__.py").exists():
            return candidate
    raise FileNotFoundError(
        f"the folder {name!r} is neither in {_PACKAGE} nor beside it: reinstall ar_net_jax"
    )


def shipped_configs() -> list[str]:
    """Names of the configs that travel with the package."""
    return sorted(p.stem for p in shipped_dir("configs").glob("*.py") if p.stem[0] != "_")
