"""The frames of a video file as JPEG pictures."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ar_net_jax.data.augment import shrink_short_side
from ar_net_jax.data.builder import encode_jpeg
from ar_net_jax.data.video import decode_frames


def encode_video(
    path: Path, frame_rate: float | None, short_side: int | None, quality: int
) -> Iterator[bytes]:
    """Decodes a video and compresses its frames.

    Args:
        path: a file that FFmpeg reads.
        frame_rate: frames per second to keep; None keeps every frame.
        short_side: pixels; larger frames are shrunk to it. None keeps every size.
        quality: of the JPEG frames, 1 to 95.

    Raises:
        UserError: the file does not decode, see `decode_frames`.
    """
    for pixels, _ in decode_frames(path, frame_rate):
        image = Image.fromarray(pixels)
        if short_side is not None and min(image.size) > short_side:
            image = shrink_short_side(image, short_side)
        yield encode_jpeg(image, quality)
