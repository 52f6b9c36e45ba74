"""The splits of a configured data set, prepared if need be."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from ar_net_jax.config.data import DataConfig
from ar_net_jax.data import registry
from ar_net_jax.data.check import Check
from ar_net_jax.data.embedded.builder import drawn_spec
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.data.storing.prepare import Writer
from ar_net_jax.errors import UserError
from ar_net_jax.runtime.storage import is_remote, local_path


def with_absolute_paths(data: DataConfig) -> DataConfig:
    """A data config that says the same wherever it is read from; raises as `prepare_data`."""
    source, home = _local(data, "source_dir"), _local(data, "data_dir")
    return dataclasses.replace(
        data,
        source_dir="" if source is None else str(source.absolute()),
        data_dir="" if home is None else str(home.absolute()),
    )


def told_source(data: DataConfig) -> str:
    """What the videos come from, for messages."""
    return data.source_dir or f"data set '{data.name}'"


def data_home(data: DataConfig, workdir: epath.Path | None = None) -> Path:
    """The folder of a run's prepared data: the config's `data_dir`, or else below the run.

    Args:
        data: the data's config.
        workdir: of the run, where there is one.

    Raises:
        UserError: there is none, it is in a bucket, or in the folder of the sources.
    """
    source, home = _local(data, "source_dir"), _local(data, "data_dir")
    if home is None:
        if workdir is None or is_remote(workdir):
            where = "" if workdir is None else f"; the data cannot be read from {workdir}"
            raise UserError(f"config.data.data_dir: give a local directory{where}")
        home = Path(workdir) / "data"
    if source is not None and home.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"{home}: lies in config.data.source_dir, where nothing is written; choose a --workdir "
            "or config.data.data_dir outside of it"
        )
    return home


def embedded_spec(data: DataConfig) -> EmbeddedSpec | None:
    """What a config says of the embedded videos; None if it says nothing."""
    given = {split: number for split, number in vars(data.embedded).items() if number}
    return EmbeddedSpec(**given) if given else None


def list_classes(data: DataConfig, home: Path) -> list[str]:
    """The class names of a data set in the order of its labels, before anything is prepared.

    Args:
        data: the data's config.
        home: from `data_home`.

    Raises:
        UserError: an unknown data set, a missing or empty source.
    """
    _check_source(data)
    if data.name == registry.EMBEDDED:
        spec = embedded_spec(data) or drawn_spec(home / "videos") or EmbeddedSpec()
        return list(spec.class_names)
    if data.source_dir and Path(data.source_dir).exists():
        return registry.list_classes(
            data.name, data_dir=home, source_dir=data.source_dir, **_options(data)
        )
    if data.source_dir and not registry.is_prepared(data.name, data_dir=home):
        raise UserError(f"{data.source_dir}: no such folder")
    return registry.class_names(data.name, data_dir=home)


def prepare_data(
    data: DataConfig,
    home: Path,
    *,
    write: Writer | None = None,
    needed: Sequence[str] = (),
    progress: bool = True,
) -> Path:
    """Makes the data set ready.

    Args:
        data: the data's config.
        home: from `data_home`.
        write: as of `registry.prepare`.
        needed: splits without which nothing is prepared.
        progress: whether to show a progress bar.

    Returns:
        The folder of the data set, for `VideoSource`.

    Raises:
        UserError: an unknown data set, a missing, empty or mostly bad source.
    """
    _check_source(data)
    return registry.prepare(
        data.name,
        data_dir=home,
        source_dir=data.source_dir or None,
        max_bad_share=data.max_bad_share,
        max_missing_share=data.max_missing_share,
        needed=needed,
        progress=progress,
        write=write,
        spec=embedded_spec(data),
        **_options(data),
    )


def check_data(data: DataConfig, *, processes: int | None = None, progress: bool = True) -> Check:
    """Looks at all that `prepare_data` would store, and writes nothing.

    Args:
        data: the data's config.
        processes: to share the work among; None for as many as cores.
        progress: whether to show a progress bar.

    Raises:
        UserError: an unknown data set, a missing or empty source, data in a bucket.
    """
    source = _local(data, "source_dir")
    if source is None:
        raise UserError("config.data.source_dir: missing; name the folder to check")
    return registry.check(
        data.name,
        source_dir=source,
        max_bad_share=data.max_bad_share,
        max_missing_share=data.max_missing_share,
        processes=processes,
        progress=progress,
        **_options(data),
    )


def _options(data: DataConfig) -> dict[str, Any]:
    """The options of the data set's builder."""
    given = {name: getattr(data, name) for name in ("frame_rate", "validation_share")}
    return {name: value for name, value in given.items() if value}


def _check_source(data: DataConfig) -> None:
    if data.source_dir and data.name == registry.EMBEDDED:
        raise UserError(
            f"config.data.source_dir: {data.source_dir} is not used by 'embedded', which is drawn "
            "by program; for videos of your own give --config.data.name=video_folder"
        )


def _local(data: DataConfig, name: str) -> Path | None:
    value: str = getattr(data, name)
    return local_path(f"config.data.{name}", value) if value else None
