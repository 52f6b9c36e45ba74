"""Types of flags that several jobs share."""

import argparse
from collections.abc import Callable
from typing import TypeVar

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
