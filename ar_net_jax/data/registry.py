"""Data sets by name: builds one if it is not there yet, opens its splits."""

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import absl.logging
import tensorflow_datasets as tfds

from ar_net_jax.config.files import load_module
from ar_net_jax.config.shipped import shipped_dir
from ar_net_jax.data.builder import VideoBuilder, VideoConfig
from ar_net_jax.data.embedded import builder as embedded
from ar_net_jax.data.source import VideoSource
from ar_net_jax.errors import UserError
from ar_net_jax.runtime.storage import write_whole

_INDEX = "prepared.json"
_REGISTERED: dict[str, type[VideoBuilder]] = {}
EMBEDDED = "embedded"
# Frames keep their size; at this quality they and their videos stay under 100 MB.
_EMBEDDED_OPTIONS = {"short_side": None, "quality": 80}
# Fields of a config that leave the stored data as it is.
_INERT = {"name", "version", "description", "release_notes", "source_dir", "progress"}


def data_set_names() -> list[str]:
    """The names that `prepare` knows: each folder of `datasets/`, and what was registered."""
    shipped = (path.stem for path in shipped_dir("datasets").glob("*/*.py"))
    return sorted({EMBEDDED, *shipped, *_REGISTERED} - {"__init__"})


def register(builder: type[VideoBuilder]) -> type[VideoBuilder]:
    """Makes a user's own data set known by its builder's name; may be used as a decorator.

    Raises:
        UserError: a shipped data set has that name.
    """
    if builder.name in data_set_names() and builder.name not in _REGISTERED:
        raise UserError(f"a data set named {builder.name!r} ships with ar_net_jax; rename yours")
    _REGISTERED[builder.name] = builder
    return builder


def _load_builder(name: str) -> type[VideoBuilder]:
    """A data set's builder; a shipped one is the class of that name in `datasets/NAME/NAME.py`."""
    if name in _REGISTERED:
        return _REGISTERED[name]
    # By its path, so that no package called `datasets` gets in the way.
    path = shipped_dir("datasets") / name / f"{name}.py"
    module = load_module(path, "datasets")
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, VideoBuilder) and value.name == name
    )


def _known(name: str) -> None:
    if name not in data_set_names():
        raise UserError(f"data set {name!r} is unknown; choose from {', '.join(data_set_names())}")


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Lets one process at a time prepare data in a folder; others wait, then find it done."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with open(data_dir / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Keeps back what TFDS prints about itself; the builder shows its own progress."""
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl.logging.set_verbosity(verbosity)


def _read_index(data_dir: Path) -> dict[str, str]:
    try:
        return json.loads((data_dir / _INDEX).read_text())
    except FileNotFoundError:
        return {}


def _write_index(data_dir: Path, index: dict[str, str]) -> None:
    write_whole(data_dir / _INDEX, json.dumps(index, indent=1))


def _fingerprint(builder: VideoBuilder, config: VideoConfig) -> str:
    """Changes with the videos, their labels and everything that decides how they are stored."""
    content = hashlib.sha256()
    fields = dataclasses.asdict(config)
    content.update(repr([(k, v) for k, v in sorted(fields.items()) if k not in _INERT]).encode())
    content.update(repr(builder.list_classes()).encode())
    for split, videos in builder.list_videos().items():
        for video in videos:
            size = video.path.stat().st_size if video.path.is_file() else -1
            entry = (split, video.name, video.labels, video.num_frames, size)
            content.update(repr(entry).encode())
    return content.hexdigest()[:12]


def _build(name: str, source_dir: Path, data_dir: Path, options: dict[str, Any]) -> Path:
    """Builds a data set if it is not there; returns its folder."""
    builder_class = _load_builder(name)
    config_class = builder_class.CONFIG
    allowed = {field.name for field in dataclasses.fields(config_class)} - _INERT | {"progress"}
    unknown = sorted(set(options) - allowed)
    if unknown:
        raise UserError(
            f"data set {name!r} has no option {unknown[0]!r}; choose from {sorted(allowed)}"
        )
    options = {"source_dir": str(source_dir), **options}
    with _quiet_tfds():
        config = config_class(name="unnamed", **options)
        probe = builder_class(data_dir=data_dir, config=config)
        config = config_class(name=_fingerprint(probe, config), **options)
        builder = builder_class(data_dir=data_dir, config=config)
        # What a killed process left; the lock tells that no other is at work here.
        for leftover in Path(builder.data_dir).parent.glob("incomplete.*"):
            shutil.rmtree(leftover)
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(compute_stats="skip"),
        )
    return Path(builder.data_dir)


def prepare(
    name: str,
    *,
    data_dir: str | Path,
    source_dir: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> None:
    """Makes a data set ready for `open_split`; does nothing when it is.

    It is built anew when the videos, the lists or the options have changed. Several processes may
    call this at once on one folder: one builds, the others wait.

    Args:
        name: one of `data_set_names()`.
        data_dir: where the prepared data lies.
        source_dir: the videos (or frames and lists) to build from. None uses what was prepared
            before. For "embedded": where its videos are drawn, `<data_dir>/videos` by default.
        progress: whether to show a progress bar.
        **options: fields of the builder's config; for "embedded" also `spec`, an `EmbeddedSpec`.

    Raises:
        UserError: unknown name or option; missing, empty or mostly bad source.
    """
    _known(name)
    data_dir = Path(data_dir)
    if name == EMBEDDED:
        source_dir = Path(source_dir or data_dir / "videos")
    elif source_dir is None:
        if name not in _read_index(data_dir):
            raise UserError(f"{data_dir}: {name!r} is not prepared here; give its source folder")
        return
    with _locked(data_dir):
        builder_name = name
        if name == EMBEDDED:
            embedded.make(source_dir, options.pop("spec", None), progress)
            builder_name, options = "video_folder", {**_EMBEDDED_OPTIONS, **options}
        built = _build(builder_name, Path(source_dir), data_dir, {"progress": progress, **options})
        index = _read_index(data_dir) | {name: built.relative_to(data_dir).as_posix()}
        _write_index(data_dir, index)


def _prepared_dir(name: str, data_dir: str | Path) -> Path:
    _known(name)
    index = _read_index(Path(data_dir))
    if name not in index:
        raise UserError(f"{data_dir}: {name!r} is not prepared here; run prepare first")
    return Path(data_dir) / index[name]


def open_split(name: str, split: str, *, data_dir: str | Path) -> VideoSource:
    """Opens a prepared split for random access.

    Args:
        name: one of `data_set_names()`.
        split: its split, such as "train".
        data_dir: as given to `prepare`.

    Raises:
        UserError: not prepared, or no such split.
    """
    return VideoSource(_prepared_dir(name, data_dir), split)


def class_names(name: str, *, data_dir: str | Path) -> list[str]:
    """The class names of a prepared data set, in the order of the labels."""
    builder = tfds.builder_from_directory(_prepared_dir(name, data_dir))
    return builder.info.features["labels"].feature.names
