"""How the checkpoints that AR-Net's authors released hold a method: names, and what they leave out.

A method that the authors' code can run has a `ReleasedForm` in its own file. Names stand here
without the `module.` that every key of a released file starts with.
"""

import abc
import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ar_net_jax.errors import UserError

if TYPE_CHECKING:
    from ar_net_jax.methods.base import Method

LITE, SINGLE, LISTED = "lite_backbone", "base_model", "base_model_list"
"""Where a released file keeps its backbones: the policy's, a lone one, one per resolution."""

RESOLUTIONS = (224, 168, 112, 84)
SKIPS = (1, 2, 4)
"""What the authors trained with, where keys and shapes cannot tell."""

INPUT_SIZE = 224
"""Side in pixels of the frames that the authors' code takes."""

Path = tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """What a released file holds.

    Attributes:
        backbones: released name, such as `base_model_list.0` -> architecture and layout.
        actions: rows of the decision head; 0 without one.
        hidden: units of the LSTM; 0 without one.
        has_head: whether there is a classifier beside `lite_backbone`.
        head_width: how many inputs that classifier has.
        lite_width: width of `lite_backbone`'s features; 0 without one.
        num_classes: C, of the first classifier found; 0 for none.
    """

    backbones: Mapping[str, tuple[str, str]]
    actions: int
    hidden: int
    has_head: bool
    head_width: int
    lite_width: int
    num_classes: int

    @property
    def lite(self) -> str:
        """Architecture of `lite_backbone`, the policy's or a baseline's; empty for none."""
        return self.backbones.get(LITE, ("",))[0]

    @property
    def listed(self) -> tuple[str, ...]:
        """Architectures of the backbones that there is one of per resolution."""
        return tuple(
            name for source, (name, _) in self.backbones.items() if source.startswith(LISTED)
        )

    @property
    def reads_features(self) -> bool:
        """Whether the classifier beside `lite_backbone` may read its features."""
        return self.head_width == self.lite_width

    @property
    def reads_hidden(self) -> bool:
        """Whether it may read the LSTM's hidden state."""
        return self.head_width == self.hidden

    @property
    def samples(self) -> bool:
        """Whether a classifier on light features stands beside other backbones, and no LSTM."""
        return bool(self.listed) and self.reads_features and not self.reads_hidden

    @property
    def decides(self) -> bool:
        """Whether there is more than one action for a policy to choose from."""
        chooses = len(self.listed) > 1 or self.actions > 1
        return bool(self.lite) and chooses and not self.samples


class Part(NamedTuple):
    """A network, recurrent layer or classifier under both of its names.

    Attributes:
        source: its released name.
        path: of its Flax module.
        content: the name of a backbone, or 'lstm' or 'linear'.
    """

    source: str
    path: Path
    content: str


class ReleasedForm(abc.ABC):
    """What the authors' files of one method look like."""

    unused: tuple[str, ...] = ()
    """Prefixes of keys that such a file may hold besides, left over and used by nothing."""

    @abc.abstractmethod
    def fits(self, contents: Contents) -> bool:
        """Whether keys and shapes may be those of this method."""

    def allows(self, contents: Contents) -> bool:
        """Whether a file may be taken for this method's when the user says that it is."""
        return self.fits(contents)

    @abc.abstractmethod
    def model(self, contents: Contents, given: Mapping[str, str]) -> dict[str, Any]:
        """Fields of the model's config, beyond those that all released models share.

        Args:
            contents: of the file.
            given: fields that the user sets, such as `model.skips`, as text.

        Raises:
            UserError: something that the file does not decide is not given.
        """

    @abc.abstractmethod
    def names(self, method: "Method[Any, Any]", contents: Contents | None) -> dict[Path, str]:
        """Released names by the path of a module: a `backbone`, an `lstm`, or a classifier.

        Args:
            method: under its configuration.
            contents: of the file; None for one that is to be written.
        """

    def read(self, arrays: dict[str, np.ndarray], method: "Method[Any, Any]") -> None:
        """Changes a file's arrays, by released name, where they hold more than the model has."""
        return None

    def write(self, state: dict[str, np.ndarray]) -> None:
        """Changes what is to be written where the authors' code expects more."""
        return None

    def check_expressible(self, config: Any) -> None:
        """Checks that the authors' code can compute what a model computes.

        Raises:
            UserError: it cannot; names the field, its value and what there is instead.
        """
        side = config.resolution
        require_expressible(
            side == INPUT_SIZE, "resolution", side, f"its highest resolution is {INPUT_SIZE} always"
        )


def parts_of(method: "Method[Any, Any]", names: Mapping[Path, str]) -> list[Part]:
    """The modules of a model that have a released name.

    Args:
        method: under its configuration.
        names: from `ReleasedForm.names`.
    """
    parts = []
    for network in method.networks().values():
        main, content = ("backbone", network.backbone) if network.backbone else ("lstm", "lstm")
        for module, kind in ((main, content), *((head, "linear") for head in network.heads)):
            path = (*network.path, module)
            if path in names:
                parts.append(Part(names[path], path, kind))
    return parts


def require_expressible(condition: bool, field: str, value: object, instead: str) -> None:
    """Raises UserError, naming the field, unless the authors' code can express its value."""
    if not condition:
        raise UserError(
            f"config.model.{field} is {value!r}, which the authors' code cannot express: "
            f"{instead}; train with that, or export to a directory or .safetensors"
        )


def require_given(decided: Mapping[str, bool], given: Mapping[str, str]) -> None:
    """Raises UserError, naming the flags, for fields that neither the file nor the user decides."""
    missing = [field for field, known in decided.items() if not known and field not in given]
    if missing:
        names = " and ".join(field.removeprefix("model.") for field in missing)
        flags = " ".join(f"'--config.{field}=(...)'" for field in missing)
        raise UserError(
            f"the keys do not say which {names} the model was trained with; give {flags}"
        )


def tuple_of(text: str | None) -> tuple[Any, ...]:
    """A tuple written on the command line; empty if it is none, which the override reports."""
    try:
        value = ast.literal_eval(text or "()")
    except (ValueError, SyntaxError):
        return ()
    return tuple(value) if isinstance(value, tuple | list) else ()
