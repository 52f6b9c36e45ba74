"""What may be decided about a frame, what that calls, and how a skip spreads over later frames.

AR-Net's actions are numbered as in the paper (Section 3.2): first the L resolutions in descending
order, then the M skips in ascending order. "Skip F" leaves out the frame it is chosen on and the
F - 1 frames after it; those later frames are *covered*: they carry on the skip and decide nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


@dataclass(frozen=True)
class Choices:
    """What a method may decide about a frame, and how often each of its networks then runs.

    A method that treats every frame alike has one choice.

    Attributes:
        names: a short name for each of the A choices, such as `224px` or `skip 2`.
        calls: by network, how often it runs per frame spent in each choice, A numbers. "Skip F"
            covers F frames with one look of the policy: 1 / F.
        overhead: the networks whose cost is that of deciding, not of what was decided. The
            efficiency loss leaves them out.
        skip_lengths: how many frames each choice leaves out, A numbers: 0 for one that processes
            its frame, 1 for one that leaves out that frame alone. Empty where every frame is
            processed.
        at_most: networks that look at some frames of a video and no more, spread evenly, and how
            many; others run as `calls` says, however long a video is.
    """

    names: tuple[str, ...]
    calls: Mapping[str, tuple[float, ...]]
    overhead: tuple[str, ...] = ()
    skip_lengths: tuple[int, ...] = ()
    at_most: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def leaves_out(self, choice: int) -> bool:
        """Whether a frame of that choice adds nothing to the prediction."""
        skipped = bool(self.skip_lengths) and self.skip_lengths[choice] > 0
        return skipped or not any(per[choice] for per in self.calls.values())

    def count(self, one_hot: Array) -> dict[str, Array]:
        """How often each network has to run for each video.

        Args:
            one_hot: float32 [B, T, A], the choice made on every frame; zero on padding.

        Returns:
            float32 [B] by network.
        """
        frames = jnp.sum(one_hot, axis=1)
        # Not a matrix product: those round to bfloat16 on TPU.
        found = {name: jnp.sum(frames * np.array(per), -1) for name, per in self.calls.items()}
        return found | {
            name: jnp.minimum(found[name], limit) for name, limit in self.at_most.items()
        }

    def expected(self, usage: np.ndarray, num_frames: float) -> dict[str, float]:
        """How often each network runs in a video of which a given share went to each choice.

        Args:
            usage: [A], shares that sum to 1.
            num_frames: of the video.
        """
        found = {
            name: float(np.dot(usage, np.asarray(per))) * num_frames
            for name, per in self.calls.items()
        }
        return found | {name: min(found[name], limit) for name, limit in self.at_most.items()}


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


def policy_choices(space: ActionSpace, served: int, policy: str, recurrent: str) -> Choices:
    """The actions as choices: which networks run on a frame of each, and how often.

    Args:
        space: the actions.
        served: how many of the resolutions have a network of their own; the policy's own
            prediction serves the rest.
        policy: name of the network that looks at each frame that no skip covers.
        recurrent: name of the one that runs after it.
    """
    names, count = space.names, space.num_actions
    own = {names[i]: tuple(float(action == i) for action in range(count)) for i in range(served)}
    looks = {policy: space.policy_visits, recurrent: space.policy_visits}
    return Choices(names, own | looks, (policy, recurrent), tuple(space.skip_lengths.tolist()))


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


def apply_skips(proposals: Array | np.ndarray, space: ActionSpace | Choices) -> tuple[Array, Array]:
    """Turns the action proposed on every frame into the action that holds on every frame.

    Args:
        proposals: int32 [B, T], the action the policy would choose on each frame.
        space: the actions, whose `skip_lengths` say what each leaves out.

    Returns:
        `actions` int32 [B, T], with a skip repeated on the frames it covers, and `covered`
        bool [B, T]. A skip cut off by the end of the video covers what is left.
    """
    lengths = jnp.asarray(space.skip_lengths)

    def step(
        carry: tuple[Array, Array], proposal: Array
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        remaining, previous = carry
        covered, remaining = advance_skip(remaining, lengths[proposal])
        action = jnp.where(covered, previous, proposal)
        return (remaining, action), (action, covered)

    start = jnp.zeros(proposals.shape[:1], jnp.int32)
    _, (actions, covered) = jax.lax.scan(step, (start, start), jnp.asarray(proposals, jnp.int32).T)
    return actions.T, covered.T


def in_random_order(
    actions: np.ndarray, choices: Choices, generator: np.random.Generator
) -> np.ndarray:
    """The same decisions about a video at other places, for the same cost.

    Args:
        actions: int32 [T], with a skip repeated on the frames it covers.
        choices: of the method.
        generator: to draw from.

    Returns:
        int32 [T]. A skip stays in one piece; one that the video's end cuts off stays there, since
        elsewhere it would cover more.
    """
    lengths = choices.skip_lengths or (0,) * len(choices)
    pieces, start = [], 0
    while start < len(actions):
        span = max(1, lengths[actions[start]])
        pieces.append(actions[start : start + span])
        start += span
    end = [pieces.pop()] if start > len(actions) else []
    order = generator.permutation(len(pieces))
    return np.concatenate([*(pieces[i] for i in order), *end])
