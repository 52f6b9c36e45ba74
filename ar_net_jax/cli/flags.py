"""What several jobs do with their flags."""

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ar_net_jax.config.model import NOMINAL_CLASSES
from ar_net_jax.errors import UserError

if TYPE_CHECKING:
    from ar_net_jax.topology import Slice

Number = TypeVar("Number", int, float)


def numbers(kind: type[Number]) -> Callable[[str], tuple[Number, ...]]:
    """A flag's type: numbers separated by commas, as a tuple.

    Args:
        kind: `int` or `float`.

    >>> numbers(int)("16,4")
    (16, 4)
    """

    def parse(text: str) -> tuple[Number, ...]:
        try:
            return tuple(kind(part) for part in text.split(","))
        except ValueError:
            wanted = "whole numbers" if kind is int else "numbers"
            raise argparse.ArgumentTypeError(
                f"{text!r} should be {wanted} separated by commas"
            ) from None

    return parse


def add_method_flag(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that names a user's own code; `load_method` acts on it."""
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="FILE.py",
        help="file that defines the method or backbone, where it is your own; may be repeated",
    )


def add_topology_flag(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Adds the flag that names chips which need not be here; `wanted_slice` reads it.

    Args:
        parser: of the job.
        purpose: the flag's help.
    """
    parser.add_argument(
        "--topology",
        metavar="CHIP:AxB[xC]",
        help=f"{purpose}; such as v5e:4x4 or v5p:2x2x1, or 1x1 for one chip (needs the extra tpu)",
    )


def wanted_slice(flags: argparse.Namespace) -> "Slice | None":
    """The chips that `--topology` names; JAX is set up for compiling without them.

    To be called before JAX is used.

    Raises:
        UserError: they are not known.
    """
    if not flags.topology:
        return None
    from ar_net_jax.topology import parse_slice, prepare_environment

    wanted = parse_slice(flags.topology)
    prepare_environment()
    return wanted


def add_chunk_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say how the routed form runs."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--chunks",
        type=numbers(int),
        metavar="N[,N...]",
        help="frames that a backbone computes at once, descending (default: the plan's)",
    )
    add_plan_flag(which)


def add_plan_flag(parser: "argparse._ActionsContainer") -> None:
    """Adds the flag that names a plan of `arnet tune`."""
    parser.add_argument(
        "--plan",
        default="auto",
        metavar="auto|none|FILE",
        help="how the routed form runs: auto takes what `arnet tune` measured on this kind of "
        "device, none the built-in sizes (default: %(default)s)",
    )


def add_classes_flag(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that says how a data set's classes are found among a model's."""
    parser.add_argument(
        "--classes",
        choices=("by_name", "by_index"),
        default="by_name",
        help="find the data's classes among the model's by name, or take class k as output k, "
        "which a model without names needs (default: %(default)s)",
    )


def load_method(flags: argparse.Namespace) -> None:
    """Makes known what the file of `--method` defines; to be called before anything else.

    Raises:
        UserError: there is no such file, or it defines nothing.
    """
    if not flags.method:
        return
    from ar_net_jax.methods.user_code import load_user_code

    for path in flags.method:
        load_user_code(path)


def tell_open_classes(number: int) -> None:
    """Says with how many classes a job without data counts, where the config leaves it open.

    Args:
        number: of the config.
    """
    if not number:
        print(
            f"counted for {NOMINAL_CLASSES} classes: config.model.num_classes is 0, so that a "
            "training takes it from its data"
        )


def refuse_overrides(overrides: Sequence[str]) -> None:
    """Raises UserError where a job that takes none was given an override of the config."""
    if overrides:
        raise UserError(f"{overrides[0]}: a trained model is used as it is; leave this out")
