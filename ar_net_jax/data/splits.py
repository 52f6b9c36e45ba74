"""The splits of a configured data set, prepared if need be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from ar_net_jax.config.data import DataConfig
from ar_net_jax.data import registry
from ar_net_jax.data.check import Check
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.data.prepare import Writer
from ar_net_jax.data.source import VideoSource
from ar_net_jax.errors import UserError
from ar_net_jax.runtime.storage import is_remote, local_path


def prepare_data(
    data: DataConfig,
    workdir: epath.Path | None = None,
    *,
    spec: EmbeddedSpec | None = None,
    write: Writer | None = None,
    needed: Sequence[str] = (),
    progress: bool = True,
) -> Path:
    """Makes the data set ready.

    Args:
        data: the data's config.
        workdir: of the run; the data set goes below it where the config names no `data_dir`.
        spec: of the embedded data set, where that is asked for; the default one if None.
        write: as of `registry.prepare`.
        needed: splits without which nothing is prepared.
        progress: whether to show a progress bar.

    Returns:
        The directory to open splits from.

    Raises:
        UserError: an unknown data set, a missing, empty or mostly bad source, data in a bucket.
    """
    options = _options(data)
    if spec is not None:
        options["spec"] = spec
    data_dir = Path(data.data_dir) if data.data_dir else _below(workdir)
    registry.prepare(
        data.name,
        data_dir=data_dir,
        source_dir=data.source_dir or None,
        max_bad_share=data.max_bad_share,
        max_missing_share=data.max_missing_share,
        needed=needed,
        progress=progress,
        write=write,
        **options,
    )
    return data_dir


def check_data(data: DataConfig, *, processes: int | None = None, progress: bool = True) -> Check:
    """Looks at all that `prepare_data` would store, and writes nothing.

    Args:
        data: the data's config.
        processes: to share the work among; None for as many as cores.
        progress: whether to show a progress bar.

    Raises:
        UserError: an unknown data set, a missing or empty source, data in a bucket.
    """
    if not data.source_dir:
        raise UserError("config.data.source_dir: missing; name the folder to check")
    return registry.check(
        data.name,
        source_dir=data.source_dir,
        processes=processes,
        progress=progress,
        **_options(data),
    )


def _options(data: DataConfig) -> dict[str, Any]:
    """The options of the data set's builder."""
    for name in ("data_dir", "source_dir"):
        local_path(f"config.data.{name}", getattr(data, name))
    given = {name: getattr(data, name) for name in ("frame_rate", "validation_share")}
    return {name: value for name, value in given.items() if value}


def _below(workdir: epath.Path | None) -> Path:
    if workdir is None or is_remote(workdir):
        where = "" if workdir is None else f"; the data cannot be read from {workdir}"
        raise UserError(f"config.data.data_dir: give a local directory{where}")
    return Path(workdir) / "data"


def open_split(data: DataConfig, data_dir: Path, split: str, num_classes: int) -> VideoSource:
    """Opens a split and checks that its labels fit the model.

    Raises:
        UserError: the data set has more classes than the model.
    """
    source = registry.open_split(data.name, split, data_dir=data_dir)
    if len(source.class_names) > num_classes:
        raise UserError(
            f"config.model.num_classes: {num_classes}, but {data.name} in {data_dir} has "
            f"{len(source.class_names)} classes; give --config.model.num_classes="
            f"{len(source.class_names)}"
        )
    return source
