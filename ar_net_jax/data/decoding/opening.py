"""How files and streams are opened, whichever release of PyAV is installed."""

from typing import Any, cast

import av
from av.container import InputContainer

# From release 19 on, tags in a forgotten encoding are no error, and cannot be asked not to be.
_TOLERANT: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)


def open_input(address: str, **options: Any) -> InputContainer:
    """Opens what FFmpeg can read; what its tags hold is no reason to refuse the pictures.

    Args:
        address: of a file or a stream, as FFmpeg takes it.
        options: as of `av.open`.

    Raises:
        av.FFmpegError: there is nothing that FFmpeg knows.
    """
    return cast(InputContainer, av.open(address, **_TOLERANT, **options))
