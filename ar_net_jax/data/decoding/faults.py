"""What is wrong with a video file, told with its name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av

from ar_net_jax.errors import UserError


class VideoFault(Exception):
    """A file that is no whole video; the message says why, without the file's name."""


# PyAV raises ValueError for codecs and pixel formats that it does not know.
FAULTS = (VideoFault, av.FFmpegError, OSError, ValueError)


def reason_of(error: Exception) -> str:
    """One line on why a file did not decode."""
    if isinstance(error, VideoFault):
        return str(error)
    told = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return f"does not decode ({told.splitlines()[0]})"


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Whatever PyAV raises inside the block becomes a UserError with the file's name."""
    try:
        yield
    except FAULTS as error:
        raise UserError(f"{path}: {reason_of(error)}; replace the file or remove it") from error
