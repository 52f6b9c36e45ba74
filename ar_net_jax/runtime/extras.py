"""Packages that only some jobs need, and that are not installed with this one."""

import importlib
from types import ModuleType

from ar_net_jax.errors import UserError, first_line


def import_extra(module: str, purpose: str, extra: str) -> ModuleType:
    """Imports a module of an optional package.

    Args:
        module: its name.
        purpose: what it is needed for, the start of the error's sentence.
        extra: of this package, that installs it.

    Raises:
        UserError: it is missing, or does not fit what is installed; the message says how to get it.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # torchvision raises both where torch is another.
        raise UserError(
            f"{purpose} needs '{module}' ({first_line(error)}); pip install 'ar_net_jax[{extra}]'"
        ) from error
