"""What the policy may choose for a frame, and how a skip spreads over the frames that follow it.

Actions are numbered as in the paper (Section 3.2): first the L resolutions in descending order,
then the M skips in ascending order. "Skip F" leaves out the frame it is chosen on and the F - 1
frames after it; those later frames are *covered*: they carry on the skip and decide nothing.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


@dataclass(frozen=True)
class ActionSpace:
    """The ordered set of actions.

    Attributes:
        resolutions: side lengths in pixels, descending; action i < L processes the frame at
            `resolutions[i]`.
        skips: numbers of frames left out, ascending; action L + j is "skip `skips[j]` frames".
    """

    resolutions: tuple[int, ...]
    skips: tuple[int, ...]

    @property
    def num_resolutions(self) -> int:
        """L, the number of resolutions."""
        return len(self.resolutions)

    @property
    def num_actions(self) -> int:
        """L + M."""
        return len(self.resolutions) + len(self.skips)

    @property
    def names(self) -> tuple[str, ...]:
        """A short name for each action, such as `224px` or `skip 2`."""
        return tuple(f"{r}px" for r in self.resolutions) + tuple(f"skip {f}" for f in self.skips)

    @property
    def skip_lengths(self) -> np.ndarray:
        """int32 [A]: how many frames each action leaves out, 0 for a resolution."""
        return np.array((0,) * self.num_resolutions + self.skips, np.int32)

    @property
    def policy_visits(self) -> tuple[float, ...]:
        """How many frames the policy looks at per frame of each action: 1, or 1/F for skip F."""
        return (1.0,) * self.num_resolutions + tuple(1.0 / f for f in self.skips)


def advance_skip(remaining: Array, length: Array) -> tuple[Array, Array]:
    """One time step of the skip counter.

    Args:
        remaining: int32 [B], how many frames from here on an earlier skip still covers.
        length: int32 [B], `skip_lengths` of the action proposed here; ignored where covered.

    Returns:
        `covered` bool [B], and the counter int32 [B] as the next frame finds it.
    """
    covered = remaining > 0
    counter = jnp.where(covered, remaining, length)
    return covered, jnp.maximum(counter - 1, 0)


def apply_skips(proposals: Array, space: ActionSpace) -> tuple[Array, Array]:
    """Turns the action proposed on every frame into the action that holds on every frame.

    Args:
        proposals: int32 [B, T], the action the policy would choose on each frame.
        space: the action space.

    Returns:
        `actions` int32 [B, T], with a skip repeated on the frames it covers, and `covered`
        bool [B, T]. A skip cut off by the end of the video covers what is left.
    """
    lengths = jnp.asarray(space.skip_lengths)

    def step(carry: tuple[Array, Array], proposal: Array) -> tuple[tuple[Array, Array], tuple]:
        remaining, previous = carry
        covered, remaining = advance_skip(remaining, lengths[proposal])
        action = jnp.where(covered, previous, proposal)
        return (remaining, action), (action, covered)

    start = jnp.zeros(proposals.shape[:1], jnp.int32)
    _, (actions, covered) = jax.lax.scan(step, (start, start), proposals.astype(jnp.int32).T)
    return actions.T, covered.T
