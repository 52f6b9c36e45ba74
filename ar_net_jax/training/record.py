"""What a run was begun with: its config and its data. Whatever differs is refused."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from ar_net_jax.config.differences import differences
from ar_net_jax.data.classes import take_classes, tell_changes
from ar_net_jax.data.source import VideoSource
from ar_net_jax.errors import UserError, first_few
from ar_net_jax.experiment import Config
from ar_net_jax.runtime.distributed import is_first, wait_for_all
from ar_net_jax.runtime.storage import write_whole

_CONFIG, _DATA = "config.json", "data.json"
# Fields of config.data that decide how the same examples are read; they may change within a run.
_HOW_TO_READ = (
    *("source_dir", "data_dir", "num_threads", "num_workers"),
    *("max_bad_share", "max_missing_share"),
)
# Fields that change nothing in what is trained.
_MAY_CHANGE = ("log_every", "checkpoint_every", "checkpoint_every_steps")
_SAME_DATA = "give it the same data, or choose another --workdir"


def take_classes_for_run(
    config: Config, workdir: epath.PathLike, names: Sequence[str], where: str
) -> Config:
    """The config of a run on a data set's classes, as `take_classes`.

    A run that an earlier version began, with more outputs than the data has classes, goes on as it
    is, without names.
    """
    values = _read(epath.Path(workdir) / _CONFIG)
    begun_without_names = values is not None and "class_names" not in values
    if begun_without_names and len(names) < config.model.num_classes:
        return config
    return take_classes(config, names, where)


def check_config(config: Config, workdir: epath.PathLike) -> None:
    """Checks that a work directory is new, or holds a run of this config. Nothing is written.

    Args:
        config: of the run, with the classes of its data.
        workdir: of the run.

    Raises:
        UserError: it holds a run of another config, or there is nothing to train.
    """
    if not config.stage_order:
        raise UserError("config.stage_order: names no stage, so there is nothing to train")
    values = _read(epath.Path(workdir) / _CONFIG)
    if values is None:
        return
    before, now = Config.from_dict(values).to_dict(), config.to_dict()
    was, is_now = before["class_names"], now["class_names"]
    if was and is_now and was != is_now:
        raise UserError(
            f"{workdir} holds a run on other classes ({tell_changes(was, is_now)}); {_SAME_DATA}"
        )
    # What an earlier version did not record cannot have changed. Of code, a change is a warning
    # that reading the config gave.
    recorded = values.get("data", {}).keys()
    kept = recorded - set(_HOW_TO_READ)
    for compared in (before, now):
        compared["data"] = {n: value for n, value in compared["data"].items() if n in kept}
        for name in ("code", "class_names", *_MAY_CHANGE):
            del compared[name]
    changed = [
        f"{path} was {json.dumps(then)}, is {json.dumps(value)}"
        for path, then, value in differences(before, now)
    ]
    if changed:
        raise UserError(
            f"{workdir} holds a run with another config (different: {first_few(changed, 5)}); "
            "choose another --workdir, or remove that one to start over"
        )


def begin(
    config: Config, workdir: epath.Path, train_split: VideoSource, validation_split: VideoSource
) -> None:
    """Records config and data in a new work directory; refuses one that holds another run.

    All processes of a job must call this.

    Args:
        config: of the run, with the classes of its data.
        workdir: of the run.
        train_split: the training videos.
        validation_split: the videos on which epochs are compared.

    Raises:
        UserError: it holds a run of another config or on other data, or processes do not share it.
    """
    splits = {split.split: split for split in (train_split, validation_split)}
    check_config(config, workdir)
    if is_first():
        workdir.mkdir(parents=True, exist_ok=True)
        new = not (workdir / _CONFIG).exists()
        if new or not (workdir / _DATA).exists():
            data = {"data_set": config.data.name, "source_dir": config.data.source_dir}
            described = {name: _describe(split) for name, split in splits.items()}
            write_json(workdir / _DATA, {**data, "splits": described})
        if new:
            # Last: its presence marks the directory as that of a run.
            write_json(workdir / _CONFIG, config.to_dict())
    wait_for_all("record of the run")
    recorded = _read(workdir / _DATA)
    if recorded is None or not (workdir / _CONFIG).exists():
        raise UserError(
            f"{workdir}: what the first process has written there is not seen by this one; "
            "--workdir must be a directory that all processes share"
        )
    for name, was in recorded["splits"].items():
        _check_split(workdir, was, splits[name])


def write_json(path: epath.Path, value: Any) -> None:
    """Writes a record in one move, for the next call to read."""
    write_whole(path, json.dumps(value, indent=2))


def _describe(split: VideoSource) -> dict[str, Any]:
    """What a split is, and digests that tell, should it ever differ, in what."""
    names, labels = hashlib.sha256(), hashlib.sha256()
    for index in range(len(split)):
        # Their frames are not read.
        example = split[index]
        names.update(repr(example["name"]).encode())
        labels.update(repr(example["labels"].tolist()).encode())
    return {
        "videos": len(split),
        "identity": split.identity,
        "names": names.hexdigest()[:16],
        "labels": labels.hexdigest()[:16],
    }


def _check_split(workdir: epath.PathLike, was: Mapping[str, Any], split: VideoSource) -> None:
    """Raises UserError, telling what differs, if a split is not the one that a run began with."""
    if was["identity"] == split.identity:
        return
    now = _describe(split)
    if was["videos"] != now["videos"]:
        told = f"{was['videos']} videos then, {now['videos']} now"
    else:
        other = [what for what in ("names", "labels") if was[what] != now[what]]
        told = f"other {' and '.join(other) or 'frames'}"
    raise UserError(
        f"{workdir} was begun on other videos than those of split '{split.split}' ({told}); "
        f"{_SAME_DATA}"
    )


def _read(path: epath.Path | Path) -> dict[str, Any] | None:
    """A record; None where there is none."""
    if not path.exists():
        return None
    values: dict[str, Any] = json.loads(path.read_text())
    return values
