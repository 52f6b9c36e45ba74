"""Where tables are printed."""

import sys

import rich.console

# Wider than any table: rich takes 80 columns where there is no terminal to ask.
_PIPED_WIDTH = 400


def standard_output() -> rich.console.Console:
    """The terminal; or a file or pipe, in which no line is wrapped or cut."""
    return rich.console.Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
