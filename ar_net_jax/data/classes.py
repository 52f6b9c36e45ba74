"""The classes of a model and those of a data set, which are matched by their names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ar_net_jax.data.listing.lists import read_classes
from ar_net_jax.data.source import VideoExample, VideoSource
from ar_net_jax.errors import UserError, first_few
from ar_net_jax.experiment import Config, with_classes

Matching = Literal["by_name", "by_index"]
"""How the classes of a data set are found among a model's: `by_name`, or class k is output k."""

_NAMED = 10


def take_classes(config: Config, names: Sequence[str], where: str) -> Config:
    """The config of a model of a data set's classes.

    Args:
        config: of a model to be trained.
        names: of the data set's classes, in the order of its labels.
        where: the data set, for messages.

    Raises:
        UserError: the config asks for another number of classes or other names, or there are
            fewer than two.
    """
    wanted, found = config.model.num_classes, len(names)
    if found < 2:
        raise UserError(f"{where} has one class ({first_few(names)}); a model needs at least two")
    if wanted not in (0, found):
        raise UserError(
            f"config.model.num_classes: {wanted}, but {where} has {found} classes "
            f"({first_few(names)}); give --config.model.num_classes={found}, or 0 to take it from "
            "the data"
        )
    if config.class_names and config.class_names != tuple(names):
        told = tell_changes(config.class_names, names)
        raise UserError(
            f"config.class_names: not the classes of {where} ({told}); leave it empty to take them "
            "from the data"
        )
    return with_classes(config, names)


def tell_changes(before: Sequence[str], now: Sequence[str]) -> str:
    """How two lists of classes differ, in words.

    >>> tell_changes(["blue", "green"], ["green", "sky"])
    'gone: blue; new: sky'
    >>> tell_changes(["blue", "green"], ["green", "blue"])
    "another order: class 0 was 'blue', is 'green'"
    """
    gone = [name for name in before if name not in set(now)]
    new = [name for name in now if name not in set(before)]
    if gone or new:
        told = {"gone": gone, "new": new}
        return "; ".join(f"{what}: {first_few(names)}" for what, names in told.items() if names)
    place = next(k for k, (was, is_now) in enumerate(zip(before, now)) if was != is_now)
    return f"another order: class {place} was {before[place]!r}, is {now[place]!r}"


def check_classes(
    names: Sequence[str], config: Config, where: str, matching: Matching = "by_name"
) -> None:
    """Checks that a data set's classes can be found among a model's.

    Args:
        names: of the data set's classes; it may lack some of the model's.
        config: of the model.
        where: the data set, for messages.
        matching: by name; or class k of the data set is output k, whatever their names are.

    Raises:
        UserError: the data set has classes that the model does not know, or the model's are not
            known.
    """
    if matching == "by_index":
        outputs = config.build_method().config.num_classes
        if len(names) > outputs:
            raise UserError(f"{where} has {len(names)} classes, but the model {outputs} outputs")
        return
    if not config.class_names:
        raise UserError(
            "the model does not tell the names of its classes, so those of "
            f"{where} cannot be found among them; give it names (`arnet convert MODEL "
            "--classes=FILE --to=...`), or say that class k of the data set is output k: "
            "--classes=by_index"
        )
    known = set(config.class_names)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"{where}: the model does not know {len(unknown)} of its {len(names)} classes: "
            f"{first_few(unknown, _NAMED)}; it knows {first_few(config.class_names, _NAMED)}. "
            "Leave their videos out, or rename them"
        )


def match_classes(
    source: VideoSource, config: Config, where: str, matching: Matching = "by_name"
) -> VideoSource:
    """A split whose labels are a model's outputs; arguments and errors as of `check_classes`."""
    check_classes(source.class_names, config, where, matching)
    if matching == "by_index" or config.class_names == tuple(source.class_names):
        return source
    return _Relabelled(source, config.class_names)


class _Relabelled(VideoSource):
    """A split under a model's numbers of classes."""

    def __init__(self, source: VideoSource, class_names: Sequence[str]) -> None:
        self.split, self.max_labels = source.split, source.max_labels
        self.identity, self.class_names = source.identity, list(class_names)
        place = {name: k for k, name in enumerate(class_names)}
        self._number = np.array([place[name] for name in source.class_names], np.int32)
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> VideoExample:
        example = self._source[index]
        return {**example, "labels": self._number[example["labels"]]}


def read_class_names(path: str | Path, outputs: int) -> list[str]:
    """The names of a model's classes from a file, one to a line, in the order of its outputs.

    Args:
        path: of a list as a data set's `classes.txt` is; see `read_classes`.
        outputs: of the model.

    Raises:
        UserError: as `read_classes`; or it has not as many names as there are outputs.
    """
    names = read_classes(Path(path))
    if len(names) != outputs:
        raise UserError(
            f"--classes={path}: {len(names)} names, but the model has {outputs} outputs; write one "
            "name to a line, in their order"
        )
    return names


def told_names(config: Config) -> list[str]:
    """What a model's classes are called: by their names, or `class 7` where it has none."""
    outputs = config.build_method().config.num_classes
    return list(config.class_names) or [f"class {k}" for k in range(outputs)]
