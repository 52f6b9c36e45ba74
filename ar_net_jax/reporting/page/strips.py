"""A video for a page: its sampled frames as small pictures, and what was decided about each."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ar_net_jax.reporting.decisions import DecidedVideo

# Sides of a picture in pixels, and WebP's quality: some 2 kB a frame.
_SIDE, _QUALITY = 112, 60


@dataclass(frozen=True)
class StripFrame:
    """A sampled frame.

    Attributes:
        picture: the frame as a `data:` address of a small WebP.
        place: when in the video, such as "1.25 s".
        decision: what was decided about it.
        share: of its full side, at which the prediction saw it; 0 where it was left out.
    """

    picture: str
    place: str
    decision: str
    share: float


@dataclass(frozen=True)
class Strip:
    """A video.

    Attributes:
        name: of the video.
        labels: names of its classes; none where they are not known.
        predicted: name of the best scored class.
        probability: of that class; None where it is not known.
        gflops: that the video needed.
        frames: in order of time.
    """

    name: str
    labels: Sequence[str]
    predicted: str
    probability: float | None
    gflops: float
    frames: Sequence[StripFrame]

    @property
    def right(self) -> bool | None:
        """Whether the best scored class is one of the video's; None where those are unknown."""
        return self.predicted in self.labels if self.labels else None


def strip_of(video: DecidedVideo) -> Strip:
    """A video of a split as a strip."""
    places = [f"{time:.2f} s" for time in video.times] if video.times is not None else None
    return Strip(
        video.name,
        video.labels,
        video.prediction,
        video.probability,
        video.gflops,
        [
            StripFrame(picture(frame), places[t] if places else f"frame {t + 1}", caption, share)
            for t, (frame, caption, share) in enumerate(
                zip(
                    video.frames,
                    video.captions,
                    (side / video.full_side for side in video.sides),
                    strict=True,
                )
            )
        ],
    )


def picture(frame: np.ndarray) -> str:
    """A frame as the `data:` address of a small WebP.

    Args:
        frame: uint8 [H, W, 3], RGB.
    """
    image = Image.fromarray(frame)
    # Smaller ones are enlarged by the browser.
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
