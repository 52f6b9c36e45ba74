"""The config of a released checkpoint, read off its keys and shapes."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ar_net_jax import backbones
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, apply_overrides
from ar_net_jax.weights.released.keys import LISTED, LITE, SINGLE, Form, identify_backbone

Shapes = Mapping[str, tuple[int, ...]]

# What the authors trained with, where keys and shapes cannot tell.
_RESOLUTIONS = (224, 168, 112, 84)
_SKIPS = (1, 2, 4)

REMEDY = "if the file is whole, correct --approach and the --config flags; if not, get it once more"
"""How the errors about keys and shapes end."""

_MULTI = ("ar_net", "random_policy", "multi_scale")


class Contents(NamedTuple):
    """What a released file holds.

    Attributes:
        backbones: released name, such as `base_model_list.0` -> architecture and layout.
        actions: rows of the decision head; 0 without one.
        hidden: units of the LSTM; 0 without one.
        has_head: whether there is a classifier beside `lite_backbone`.
        head_width: how many inputs that classifier has.
        num_classes: C, of the first classifier found; 0 for none.
    """

    backbones: dict[str, tuple[str, str]]
    actions: int
    hidden: int
    has_head: bool
    head_width: int
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
    def form(self) -> Form:
        """How Uniform's network is named here."""
        return "lite" if self.lite else "single"


def read_contents(shapes: Shapes) -> Contents:
    """Recognises the parts of a released file.

    Args:
        shapes: released key without `module.` -> shape.

    Raises:
        UserError: these are not the keys of a released checkpoint, or of an unknown backbone.
    """
    tops = {key.split(".", 1)[0] for key in shapes}
    if not tops & {LITE, SINGLE}:
        some = ", ".join(sorted(shapes)[:3]) or "none"
        raise UserError(
            f"no released AR-Net checkpoint: it has no keys 'module.{LITE}.*' or "
            f"'module.{SINGLE}.*' (its first keys: {some})"
        )
    numbers = _numbers(shapes, LISTED)
    if odd := sorted(numbers ^ _numbers(shapes, "new_fc_list")):
        other = LISTED if odd[0] not in numbers else "new_fc_list"
        raise UserError(
            f"the checkpoint misses module.{other}.{odd[0]}.*, a part of its classifier number "
            f"{odd[0]}; {REMEDY}"
        )
    listed = [f"{LISTED}.{i}" for i in sorted(numbers)]
    sources = [source for source in (LITE, SINGLE) if source in tops] + listed
    heads = [key for key in shapes if key.split(".")[0] in ("lite_fc", "new_fc", "new_fc_list")]
    return Contents(
        backbones={source: identify_backbone(source, shapes) for source in sources},
        actions=_side(shapes, "linear.bias", 0) or _side(shapes, "linear.weight", 0),
        hidden=_side(shapes, "rnn.weight_hh", 1) or _side(shapes, "rnn.bias_hh", 0) // 4,
        has_head="lite_fc" in tops,
        head_width=_side(shapes, "lite_fc.weight", 1),
        num_classes=_side(shapes, heads[0], 0) if heads else 0,
    )


def fitting_approaches(contents: Contents) -> tuple[str, ...]:
    """The approaches that a file may be of, by its keys and shapes alone.

    Raises:
        UserError: it is an SCSampler, which is not among the approaches.
    """
    if not contents.lite:
        return ("uniform",)
    count, width = len(contents.listed), backbones.get(contents.lite).features
    reads_features = contents.head_width == width
    reads_hidden = contents.head_width == contents.hidden
    if count and reads_features and not reads_hidden:
        raise UserError(
            "this is an SCSampler checkpoint, and SCSampler is not built here; convert another "
            "of the authors' checkpoints"
        )
    # As many actions as backbones: the policy decides nothing.
    if count <= 1 and contents.actions <= 1:
        both = reads_features == reads_hidden
        return ("uniform", "lstm") if both else ("uniform",) if reads_features else ("lstm",)
    if (count, contents.actions) == (3, 5):  # The published Multi-Scale.
        return ("multi_scale",)
    return _MULTI if contents.actions <= count + 2 else _MULTI[:2]


def derive_config(
    contents: Contents, approach: str | None, overrides: Sequence[str] = ()
) -> Config:
    """The config under which the authors' code runs a file.

    Args:
        contents: of the file.
        approach: of the model, where the file fits several; None to derive it.
        overrides: such as `--config.model.skips=(1,2)`, which have the last word.

    Raises:
        UserError: something that the file does not decide is not given, or an override is
            impossible.
    """
    given = dict(part.removeprefix("--config.").split("=", 1) for part in overrides if "=" in part)
    approach = _choose_approach(contents, approach or given.get("model.approach"))
    policy: dict[str, Any] = {"cell_state": "advancing", "lowest_head": "hidden"}
    if contents.hidden:
        policy["hidden_size"] = contents.hidden
    model: dict[str, Any] = {
        "approach": approach,
        "padding": "static",
        "norm": "tensorflow",
        "gflops_convention": "paper",
        "policy": policy,
    }
    if contents.num_classes:
        model["num_classes"] = contents.num_classes
    if approach in _MULTI:
        _add_action_space(model, contents, given)
    else:
        backbone = contents.lite or contents.backbones[SINGLE][0]
        model |= {"resolutions": _RESOLUTIONS[:1], "backbones": (backbone,), "skips": ()}
    return apply_overrides(Config.from_dict({"model": model}), overrides)


def _choose_approach(contents: Contents, wanted: str | None) -> str:
    fitting = fitting_approaches(contents)
    if wanted is None:
        if len(fitting) == 1:
            return fitting[0]
        raise UserError(
            "the keys fit several approaches alike; say which it is: --approach "
            f"{' or --approach '.join(fitting)}"
        )
    # Multi-Scale is told by its number of actions alone, which other skips can have as well.
    allowed = _MULTI if set(fitting) & set(_MULTI) else fitting
    if wanted not in allowed:
        raise UserError(
            f"--approach {wanted} does not fit the keys, which are those of {' or '.join(allowed)}"
        )
    return wanted


def _add_action_space(model: dict[str, Any], contents: Contents, given: Mapping[str, str]) -> None:
    """Completes the fields of a multi-backbone model: resolutions, backbones, skips, policy."""
    policy = model["policy"]
    default = str(contents.has_head)
    is_action = given.get("model.policy.is_action", default).lower() in ("true", "1")
    count = len(contents.listed) + int(is_action)
    skips = 0 if model["approach"] == "multi_scale" else max(contents.actions - count, 0)
    _ask_for(
        {
            "model.resolutions": count in (1, len(_RESOLUTIONS)),
            "model.skips": skips in (0, len(_SKIPS)),
        },
        given,
    )
    resolutions = _tuple(given.get("model.resolutions")) or _RESOLUTIONS[:count]
    model["resolutions"] = resolutions
    model["backbones"] = contents.listed
    # Where it is given, the tuple here only holds its place until the override.
    model["skips"] = _SKIPS if skips == len(_SKIPS) else tuple(range(1, skips + 1))
    policy["backbone"] = contents.lite
    policy["is_action"] = is_action
    policy["resolution"] = resolutions[-1] if is_action else _RESOLUTIONS[-1]


def _ask_for(decided: Mapping[str, bool], given: Mapping[str, str]) -> None:
    missing = [field for field, known in decided.items() if not known and field not in given]
    if missing:
        names = " and ".join(field.removeprefix("model.") for field in missing)
        flags = " ".join(f"'--config.{field}=(...)'" for field in missing)
        raise UserError(
            f"the keys do not say which {names} the model was trained with; give {flags}"
        )


def _tuple(text: str | None) -> tuple[Any, ...]:
    """A tuple written on the command line; empty if it is none, which the override reports."""
    try:
        value = ast.literal_eval(text or "()")
    except (ValueError, SyntaxError):
        return ()
    return tuple(value) if isinstance(value, tuple | list) else ()


def _side(shapes: Shapes, key: str, axis: int) -> int:
    shape = shapes.get(key, ())
    return shape[axis] if len(shape) > axis else 0


def _numbers(shapes: Shapes, top: str) -> set[int]:
    """The numbers i of the keys `top.i.*`."""
    names = (key.split(".") for key in shapes)
    return {int(i) for first, i, *_ in names if first == top and i.isdigit()}
