"""Worker processes: they exit when their parent does, and the parent notices when one dies."""

import multiprocessing
import os
import threading
from collections.abc import Generator
from typing import Any

import grain

from ar_net_jax.errors import UserError


def exit_with_parent(*_: int) -> None:
    """Makes this worker exit when its parent does, so that a killed run leaves no process behind.

    Pools call this in each new worker, some with arguments, which are not needed.
    """

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None, "called in a worker"
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def read_workers(stream: grain.IterDataset) -> Generator[Any, None, None]:
    """The elements of a stream that worker processes fill; closing the iterator ends them.

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
