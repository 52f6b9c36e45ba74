"""What can be done with a method: the rest of the package asks these, never a method's name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Traits:
    """What can be done with a method.

    Attributes:
        adaptive: what is computed depends on the video.
        steerable: its decisions follow from logits, so that they can be forced, sampled, and made
            cheaper by an offset.
        streams: it can take a video frame by frame.
        draws: evaluation draws at random, by keys.
        crops: it decides which part of a frame a network sees. The control for that is
            `Mode.random_crops`, beside `Method.control_actions` for other decisions.
        reference: comparisons hold other methods against it, at several numbers of frames.
    """

    adaptive: bool = False
    steerable: bool = False
    streams: bool = False
    draws: bool = False
    crops: bool = False
    reference: bool = False
