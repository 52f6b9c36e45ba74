"""The exceptions that end a job without a traceback, and what messages are often made of."""

from collections.abc import Sequence


class UserError(ValueError):
    """Bad input from the user: a config, a file, a flag.

    The message names the thing that is wrong and what to do about it. The command line prints it
    without a traceback and exits with status 1.
    """


class Preempted(Exception):
    """Told to stop, the machine being taken away; all that is needed to go on has been saved.

    The command line prints the message and exits with `EXIT_STATUS`, which is EX_TEMPFAIL of
    sysexits.h: run the same command again.
    """

    EXIT_STATUS = 75


class StoppedByUser(Preempted):
    """Stopped by Ctrl-C; all that is needed to go on has been saved.

    The status is that of shells for SIGINT.
    """

    EXIT_STATUS = 130


def first_line(error: BaseException) -> str:
    r"""The first line of an error's message, or the name of its type where it has none.

    >>> first_line(ValueError("no such key\nwith the whole tree below")), first_line(EOFError())
    ('no such key', 'EOFError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def first_few(names: Sequence[str], limit: int = 3) -> str:
    """The first names of a list, and how many more there are.

    >>> first_few(["a", "b", "c", "d", "e"]), first_few(["a", "b"])
    ('a, b, c and 2 more', 'a, b')
    """
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
