"""What several jobs do with their flags."""

import argparse
from collections.abc import Callable, Sequence
from typing import TypeVar

from ar_net_jax.errors import UserError

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


def refuse_overrides(overrides: Sequence[str]) -> None:
    """Raises UserError where a job that takes none was given an override of the config."""
    if overrides:
        raise UserError(f"{overrides[0]}: a trained model is used as it is; leave this out")
