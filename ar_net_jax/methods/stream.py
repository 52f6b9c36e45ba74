"""What a video that arrives frame by frame looks like from outside, for methods that take one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import jax
import numpy as np

Array = jax.Array


@dataclass(frozen=True)
class Step:
    """What was made of one frame.

    Attributes:
        action: index of the choice, among the method's `choices`; a covered frame repeats a skip.
        covered: whether an earlier skip holds.
        networks: those that were called, by name.
    """

    action: int
    covered: bool
    networks: tuple[str, ...]


class Stream(Protocol):
    """One video on its way; after T frames it stands where a call on the clip of T would."""

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each network was called since the start of the video, by name."""

    @property
    def logits(self) -> np.ndarray:
        """The prediction for the frames so far: float32 [C], zeros while all are skipped."""

    @property
    def actions(self) -> np.ndarray:
        """int32 [t], the choice for every frame so far."""

    @property
    def gflops(self) -> float:
        """GFLOPs that the frames so far needed, in the model's convention."""

    def reset(self) -> None:
        """Starts a new video."""

    def push(self, frame: np.ndarray | Array) -> Step:
        """Takes the next frame, uint8 [S, S, 3].

        Raises:
            ValueError: a frame of a wrong shape or type.
        """


def check_frame(frame: np.ndarray | Array, size: int) -> None:
    """Raises ValueError unless a frame is uint8 [size, size, 3]."""
    if np.shape(frame) != (size, size, 3) or frame.dtype != np.uint8:
        raise ValueError(
            f"a frame must be uint8 [{size}, {size}, 3], got {frame.dtype} {list(np.shape(frame))}"
        )
