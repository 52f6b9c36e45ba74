"""The exceptions that end a job without a traceback: bad input, and an order to stop."""


class UserError(ValueError):
    """Bad input from the user: a config, a file, a flag.

    The message names the thing that is wrong and what to do about it. The command line prints it
    without a traceback and exits with status 1.
    """


class Preempted(Exception):
    """The machine is to be given up, and all that is needed to go on has been saved.

    The command line prints the message and exits with `EXIT_STATUS`, which is EX_TEMPFAIL of
    sysexits.h: run the same command again.
    """

    EXIT_STATUS = 75


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
