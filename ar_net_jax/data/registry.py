"""Data sets by name: builds one if it is not there yet, opens its splits."""

import contextlib
import dataclasses
import difflib
import fcntl
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import absl.logging
import tensorflow_datasets as tfds

from ar_net_jax.config.data import DataConfig
from ar_net_jax.config.files import load_module
from ar_net_jax.config.shipped import shipped_dir
from ar_net_jax.data.builder import VideoBuilder
from ar_net_jax.data.check import Check
from ar_net_jax.data.check import check as check_videos
from ar_net_jax.data.embedded import builder as embedded
from ar_net_jax.data.embedded.plan import EmbeddedSpec
from ar_net_jax.data.prepared import Entry, read_entry, read_index, write_entry
from ar_net_jax.data.report import REPORT
from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.storing.prepare import (
    Job,
    Writer,
    build,
    check_splits,
    clean_up,
    fingerprint,
    look,
    write_locally,
)
from ar_net_jax.errors import UserError

_REGISTERED: dict[str, type[VideoBuilder]] = {}
EMBEDDED = "embedded"
# Frames keep their size; at this quality they and their videos stay under 100 MB.
_EMBEDDED_OPTIONS = {"short_side": None, "quality": 80}
# Fields of a config that are no options: where the videos are, and TFDS's own.
_INERT = {"source_dir", *(field.name for field in dataclasses.fields(tfds.core.BuilderConfig))}


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
    known = data_set_names()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known)}"
        raise UserError(f"config.data.name: data set {name!r} is unknown; {hint}")


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


def _tell(line: str, progress: bool) -> None:
    if progress:
        print(line, file=sys.stderr, flush=True)


def _configure(
    name: str, source_dir: Path, data_dir: Path, options: dict[str, Any]
) -> tuple[VideoBuilder, dict[str, Any]]:
    """A builder that can list and encode, and all options that decide how frames are stored."""
    builder_class = _load_builder(name)
    config_class = builder_class.CONFIG
    allowed = {field.name for field in dataclasses.fields(config_class)} - _INERT
    unknown = sorted(set(options) - allowed)
    if unknown:
        raise UserError(
            f"data set {name!r} has no option {unknown[0]!r}; choose from {sorted(allowed)}"
        )
    config = config_class(name="unnamed", source_dir=str(source_dir), **options)
    used = {key: value for key, value in dataclasses.asdict(config).items() if key in allowed}
    return builder_class(data_dir=data_dir, config=config), used


def _build(
    name: str,
    source_dir: Path,
    data_dir: Path,
    options: dict[str, Any],
    job: Job,
    needed: Sequence[str],
) -> Path:
    """Builds a data set if it is not there; returns its folder."""
    with _quiet_tfds():
        # Absolute: processes that share the work may be started in another folder.
        builder, used = _configure(name, source_dir.absolute(), data_dir, options)
        found = look(builder)
        check_splits(found.listing, needed, builder.root)
        config = dataclasses.replace(builder.builder_config, name=fingerprint(used, found))
        builder = type(builder)(data_dir=data_dir, config=config)
        folder = Path(builder.data_path)
        if folder.exists():
            clean_up(folder)
            return folder
        made_from = {"data_set": name, "source_dir": str(source_dir.absolute()), **used}
        told = build(builder, found, made_from, job)
    for line in told.lines():
        _tell(line, job.progress)
    _tell(f"report: {folder / REPORT}", job.progress)
    return folder


def prepare(
    name: str,
    *,
    data_dir: str | Path,
    source_dir: str | Path | None = None,
    max_bad_share: float = DataConfig.max_bad_share,
    max_missing_share: float = DataConfig.max_missing_share,
    needed: Sequence[str] = (),
    progress: bool = True,
    write: Writer | None = None,
    spec: EmbeddedSpec | None = None,
    **options: Any,
) -> Path:
    """Makes a data set ready for `open_split`; does nothing when it is.

    It is built anew when the videos, the lists or the options have changed; when the videos are no
    longer there, what was prepared from them is used. A call that was stopped, by whatever, is gone
    on with by the next. Several processes may call this at once on one folder: one builds, the
    others wait.

    Args:
        name: one of `data_set_names()`.
        data_dir: where the prepared data lies.
        source_dir: the videos (or frames and lists) to build from. None uses what was prepared
            before. Not for "embedded", whose videos are drawn in `<data_dir>/videos`.
        max_bad_share: share of the videos that may be undecodable.
        max_missing_share: share of the listed videos of a split that may not be there.
        needed: splits without which nothing is prepared.
        progress: whether to show a progress bar, and to tell what was left out.
        write: shares the work out: `write_locally` among a chosen number of processes,
            `data.storing.beam.write_with_beam` among machines; None for as many processes as cores.
        spec: of the embedded data set; None for what is drawn there already, else the default.
        **options: fields of the builder's config.

    Returns:
        The folder of the data set, with `report.json` in it.

    Raises:
        UserError: unknown name or option; missing, empty or mostly bad source.
    """
    _known(name)
    data_dir = Path(data_dir)
    if name == EMBEDDED:
        if source_dir is not None:
            raise UserError(
                f"{source_dir}: the data set 'embedded' is drawn and has no source; for videos of "
                "your own choose 'video_folder'"
            )
    elif source_dir is None or not Path(source_dir).exists():
        return _use_prepared(name, data_dir, source_dir, options, progress)
    job = Job(max_bad_share, max_missing_share, progress, write or write_locally(None))
    with _locked(data_dir):
        builder_name, source = name, Path(source_dir or data_dir / "videos")
        if name == EMBEDDED:
            embedded.make(source, spec, progress)
            builder_name, options = "video_folder", {**_EMBEDDED_OPTIONS, **options}
        _tell_old_form(name, data_dir, progress)
        built = _build(builder_name, source, data_dir, options, job, needed)
        path = built.relative_to(data_dir).as_posix()
        entry = Entry(path, str(source.absolute()), str(source), options)
        write_entry(name, entry, data_dir)
    return built


def _tell_old_form(name: str, data_dir: Path, progress: bool) -> None:
    old = read_index(data_dir).get(name)
    if isinstance(old, str):
        _tell(
            f"{data_dir / old}: prepared by an earlier version in another form; preparing anew "
            "(the old folder is not needed any more)",
            progress,
        )


def _use_prepared(
    name: str,
    data_dir: Path,
    source_dir: str | Path | None,
    options: dict[str, Any],
    progress: bool,
) -> Path:
    """What was prepared before, where there is no source to compare it with."""
    entry = read_entry(name, data_dir)
    if source_dir is None:
        if entry is None:
            raise UserError(f"{data_dir}: {name!r} is not prepared here; give its source folder")
        return data_dir / entry.path
    source = Path(source_dir)
    if entry is None:
        raise UserError(f"{source}: no such folder")
    if entry.given != str(source) and entry.source_dir != str(source.absolute()):
        raise UserError(
            f"{source}: no such folder; what is prepared in {data_dir} was made from "
            f"{entry.source_dir}"
        )
    if json.loads(json.dumps(options)) != entry.options:
        raise UserError(
            f"{source}: no such folder, and what was prepared from it has other options: "
            f"{entry.options}"
        )
    _tell(f"{source} is not there; using what was prepared from {entry.source_dir}", progress)
    return data_dir / entry.path


def check(
    name: str,
    *,
    source_dir: str | Path,
    max_bad_share: float = DataConfig.max_bad_share,
    max_missing_share: float = DataConfig.max_missing_share,
    processes: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Check:
    """Looks at all that `prepare` would store, decodes it, and writes nothing.

    Args:
        name: one of `data_set_names()`, but not "embedded".
        source_dir: the videos (or frames and lists).
        max_bad_share: as of `prepare`.
        max_missing_share: as of `prepare`.
        processes: to share the work among; None for as many as cores.
        progress: whether to show a progress bar.
        **options: fields of the builder's config.

    Raises:
        UserError: unknown name or option; a missing or empty source, a wrong list.
    """
    _known(name)
    if name == EMBEDDED:
        raise UserError("the data set 'embedded' is drawn; there is nothing to check")
    source = Path(source_dir)
    if not source.exists():
        raise UserError(f"{source}: no such folder")
    with _quiet_tfds():
        # Named because TFDS asks for a folder; it is not touched.
        builder, used = _configure(name, source, source, options)
        made_from = {"data_set": name, "source_dir": str(source.absolute()), **used}
        return check_videos(
            builder,
            look(builder),
            made_from,
            max_bad_share=max_bad_share,
            max_missing_share=max_missing_share,
            processes=processes,
            progress=progress,
        )


def report(name: str, *, data_dir: str | Path) -> dict[str, Any]:
    """The report of a prepared data set: see `Report.to_json`.

    Raises:
        UserError: not prepared.
    """
    return json.loads((_prepared_dir(name, data_dir) / REPORT).read_text())


def _prepared_dir(name: str, data_dir: str | Path) -> Path:
    _known(name)
    entry = read_entry(name, Path(data_dir))
    if entry is None:
        raise UserError(f"{data_dir}: {name!r} is not prepared here; run prepare first")
    return Path(data_dir) / entry.path


def is_prepared(name: str, *, data_dir: str | Path) -> bool:
    """Whether a data set is prepared in a folder; raises UserError where the name is unknown."""
    _known(name)
    return read_entry(name, Path(data_dir)) is not None


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


def list_classes(
    name: str, *, data_dir: str | Path, source_dir: str | Path, **options: Any
) -> list[str]:
    """The class names of a data set in the order of the labels, before it is prepared.

    Args:
        name: one of `data_set_names()`.
        data_dir: where it would be prepared; nothing is written there.
        source_dir: what from.
        **options: fields of the builder's config.

    Raises:
        UserError: unknown name or option; a source without classes.
    """
    _known(name)
    with _quiet_tfds():
        builder, _ = _configure(name, Path(source_dir), Path(data_dir), options)
        return builder.list_classes()


def class_names(name: str, *, data_dir: str | Path) -> list[str]:
    """The class names of a prepared data set, in the order of the labels."""
    builder = tfds.builder_from_directory(_prepared_dir(name, data_dir))
    return builder.info.features["labels"].feature.names
