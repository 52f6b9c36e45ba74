"""Processes that make or read data: they end with the one that started them, and are missed."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from typing import Any

import grain

from ar_net_jax.errors import UserError


def end_with_parent(*_: int) -> None:
    """Ends this worker when its parent is gone, so that a killed run leaves nobody at work.

    Pools call this in each new worker, some with arguments, which do not matter.
    """

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def until_one_dies(stream: grain.IterDataset) -> Iterator[Any]:
    """The elements of a stream that worker processes fill; closing it ends them.

    Raises:
        UserError: a worker has died.
    """
    elements = iter(stream)
    try:
        yield from elements
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):
            raise
        raise UserError(
            f"a process that reads data has died ({str(error).split('.')[0]}), often for want of "
            "memory; the same command goes on from the last checkpoint, and "
            "config.data.num_workers may be lower"
        ) from error
    finally:
        elements.close()
