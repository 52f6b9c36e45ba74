"""The data set of a trained model, where it is at hand: at its `data_dir`, or near the model."""

from pathlib import Path

from ar_net_jax.config.data import DataConfig
from ar_net_jax.data import registry
from ar_net_jax.errors import UserError


def find_data(data: DataConfig, workdir: Path) -> Path | None:
    """The folder in which a model's data set is prepared.

    Args:
        data: the data's config.
        workdir: the folder around the model's. A training without `data.data_dir` keeps its data
            set there, a demo in the folder around that, where its runs share it.

    Returns:
        A folder to open splits from; None where the data set is nowhere near.
    """
    nearby = (workdir / "data", workdir.parent / "data")
    for folder in (Path(data.data_dir),) if data.data_dir else nearby:
        try:
            registry.class_names(data.name, data_dir=folder)
        except UserError:
            continue
        return folder
    return None


def class_names(data: DataConfig, workdir: Path, num_classes: int) -> list[str]:
    """Names of a model's classes, from the data set it was trained on.

    Where that is not at hand, or has fewer classes, the rest are called `class 7` and so on.

    Args:
        data: the data's config.
        workdir: the folder around the model's, see `find_data`.
        num_classes: C.
    """
    folder = find_data(data, workdir)
    known = [] if folder is None else registry.class_names(data.name, data_dir=folder)
    return known + [f"class {i}" for i in range(len(known), num_classes)]
