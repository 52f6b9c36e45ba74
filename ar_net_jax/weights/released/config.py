"""The config of a released checkpoint, read off its keys and shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

from ar_net_jax import backbones, methods
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config, apply_overrides
from ar_net_jax.methods.released import LISTED, LITE, SINGLE, Contents, ReleasedForm
from ar_net_jax.weights.released.keys import identify_backbone

Shapes = Mapping[str, tuple[int, ...]]

REMEDY = "if the file is whole, correct --as and the --config flags; if not, get it once more"
"""How the errors about keys and shapes end."""


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
    found = {source: identify_backbone(source, shapes) for source in sources}
    heads = [key for key in shapes if key.split(".")[0] in ("lite_fc", "new_fc", "new_fc_list")]
    return Contents(
        backbones=found,
        actions=_side(shapes, "linear.bias", 0) or _side(shapes, "linear.weight", 0),
        hidden=_side(shapes, "rnn.weight_hh", 1) or _side(shapes, "rnn.bias_hh", 0) // 4,
        has_head="lite_fc" in tops,
        head_width=_side(shapes, "lite_fc.weight", 1),
        lite_width=backbones.get(found[LITE][0]).features if LITE in found else 0,
        num_classes=_side(shapes, heads[0], 0) if heads else 0,
    )


def fitting_methods(contents: Contents) -> tuple[str, ...]:
    """Names of the methods that a file may be of, by its keys and shapes alone."""
    return tuple(name for name, form in _forms().items() if form.fits(contents))


def derive_config(contents: Contents, method: str | None, overrides: Sequence[str] = ()) -> Config:
    """The config under which the authors' code runs a file.

    Args:
        contents: of the file.
        method: name of the model's method, where the file fits several; None to derive it.
        overrides: such as `--config.model.skips=(1,2)`, which have the last word.

    Raises:
        UserError: something that the file does not decide is not given, or an override is
            impossible.
    """
    given = dict(part.removeprefix("--config.").split("=", 1) for part in overrides if "=" in part)
    name = _choose(contents, method or given.get("method"))
    model: dict[str, Any] = {
        "padding": "static",
        "norm": "tensorflow",
        "gflops_convention": "paper",
        **_forms()[name].model(contents, given),
    }
    if contents.num_classes:
        model["num_classes"] = contents.num_classes
    return apply_overrides(Config.from_dict({"method": name, "model": model}), overrides)


def _choose(contents: Contents, wanted: str | None) -> str:
    fitting = fitting_methods(contents)
    if wanted is None:
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            raise UserError(f"the keys are those of no method known here; {REMEDY}")
        raise UserError(
            f"the keys fit several methods alike; say which it is: --as {' or --as '.join(fitting)}"
        )
    allowed = [name for name, form in _forms().items() if form.allows(contents)]
    if wanted not in allowed:
        raise UserError(
            f"--as {wanted} does not fit the keys, which are those of {' or '.join(allowed)}"
        )
    return wanted


def _forms() -> dict[str, ReleasedForm]:
    """What the authors' files of each method look like, where there are any."""
    known = {name: methods.get(name).released for name in methods.names()}
    return {name: form for name, form in known.items() if form is not None}


def _side(shapes: Shapes, key: str, axis: int) -> int:
    shape = shapes.get(key, ())
    return shape[axis] if len(shape) > axis else 0


def _numbers(shapes: Shapes, top: str) -> set[int]:
    """The numbers i of the keys `top.i.*`."""
    names = (key.split(".") for key in shapes)
    return {int(i) for first, i, *_ in names if first == top and i.isdigit()}
