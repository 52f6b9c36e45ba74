"""Sending a signal to a process at a chosen moment."""

import signal
import subprocess
import time
from collections.abc import Callable


def signal_when(
    process: subprocess.Popen, number: signal.Signals, ready: Callable[[], bool]
) -> int:
    """Sends a signal once the condition holds; returns the exit status."""
    deadline = time.monotonic() + 200
    while not ready() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    return process.wait(timeout=200)
