"""Processes that a job starts and that must not outlive it."""

import multiprocessing
import os
import threading


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
