"""How often each action is taken, as a user gives it."""

from collections.abc import Sequence

import numpy as np

from ar_net_jax.errors import UserError

# Shares are typed with a few digits.
_SHARES_SLACK = 1e-3


def parse_usage(text: str, names: Sequence[str]) -> tuple[np.ndarray, int | None]:
    """Reads how often each action is taken.

    Args:
        text: one number per action, separated by commas: shares that sum to 1, or frame counts.
        names: of the actions.

    Returns:
        Shares, float64 [A]; and the number of frames where they were counts, else None.

    Raises:
        UserError: not one number per action, a negative one, or neither shares nor counts.

    >>> parse_usage("1,3", ["224px", "skip 1"])
    (array([0.25, 0.75]), 4)
    """
    fields = text.split(",")
    if len(fields) != len(names):
        raise UserError(
            f"--usage: {len(fields)} given, but there are {len(names)} actions "
            f"({', '.join(names)}); give one number for each"
        )
    values = np.zeros(len(names))
    for i, (name, field) in enumerate(zip(names, fields, strict=True)):
        try:
            values[i] = float(field)
        except ValueError:
            raise UserError(f"--usage: {field!r} of action {name} is not a number") from None
        if not (np.isfinite(values[i]) and values[i] >= 0):
            raise UserError(f"--usage: {field} of action {name} must be finite and not negative")
    total = values.sum()
    if abs(total - 1) <= _SHARES_SLACK:
        return values / total, None
    fraction = next((i for i, value in enumerate(values) if value % 1), None)
    if fraction is None and total > 0:
        return values / total, int(total)
    named = "" if fraction is None else f", and {fields[fraction]} of {names[fraction]} is no count"
    raise UserError(
        f"--usage: the shares sum to {total:.6g}{named}; give shares that sum to 1, or whole "
        "numbers of frames"
    )
