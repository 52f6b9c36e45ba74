"""The one exception type that means "the input is at fault": shown to the user as a single line."""


class UserError(ValueError):
    """Bad input from the user: a config, a file, a flag.

    The message names the thing that is wrong and what to do about it. The command line prints it
    without a traceback and exits with status 1.
    """
