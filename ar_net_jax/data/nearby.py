"""The data set of a trained model, where it is at hand: at its `data_dir`, or near the model."""

from pathlib import Path

from ar_net_jax.config.data import DataConfig
from ar_net_jax.data import registry
from ar_net_jax.data.embedded.builder import drawn_spec
from ar_net_jax.data.splits import embedded_spec
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


def embedded_nearby(data: DataConfig, workdir: Path) -> Path | None:
    """Where a demo keeps the embedded videos of the model of one of its runs.

    Args:
        data: the data's config.
        workdir: the folder around the model's.

    Returns:
        A folder to prepare and to open splits from; None where there are no such videos.
    """
    if data.name != registry.EMBEDDED or data.data_dir or (workdir / "data").exists():
        return None
    folder, wanted = workdir.parent / "data", embedded_spec(data)
    drawn = drawn_spec(folder / "videos")
    return folder if drawn is not None and wanted in (None, drawn) else None
