"""AR-Net on a video that arrives frame by frame, such as a camera's.

Each frame calls only the networks it needs. On a frame that a skip covers that is none where the
cell state is frozen (`paper`), and the policy's extractor and LSTM where it advances (`released`).
"""

import functools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.config.config import ModelConfig
from ar_net_jax.costs.model_costs import model_cost_table
from ar_net_jax.errors import UserError
from ar_net_jax.inference.step import penalty_offsets, video_gflops
from ar_net_jax.methods.ar_net import ARNet
from ar_net_jax.modules.multi_backbone import POLICY
from ar_net_jax.modules.policy import PolicyState

Array = jax.Array


@dataclass(frozen=True)
class Step:
    """What was made of one frame.

    Attributes:
        action: its index in `config.model.space.names`; a covered frame repeats the skip.
        covered: whether an earlier skip holds.
        networks: those that were called: `policy`, and a resolution's name such as `224px`.
    """

    action: int
    covered: bool
    networks: tuple[str, ...]


class Stream:
    """One video on its way; after T frames it stands where a call on the clip of T would.

    Attributes:
        calls: how often each network was called since the start of the video, by name.
    """

    def __init__(self, config: ModelConfig, variables: Any, *, cost_penalty: float = 0.0) -> None:
        """Compiles every network, so that no frame waits for that.

        Args:
            config: of an AR-Net.
            variables: that fit it, on the device.
            cost_penalty: as in `Model.__call__`.

        Raises:
            UserError: an approach that decides nothing frame by frame.
        """
        if config.approach != "ar_net":
            raise UserError(
                f"model.approach: only 'ar_net' decides frame by frame, and this is "
                f"'{config.approach}'; call the model on whole clips"
            )
        self._config, self._variables = config, variables
        self._table = model_cost_table(config)
        self._offsets = penalty_offsets(self._table, cost_penalty)
        model = ARNet(config)
        self._look = jax.jit(functools.partial(model.apply, method="look_at"))
        self._classify = [
            jax.jit(functools.partial(_add_logits, model, i)) for i in range(len(config.backbones))
        ]
        self._first = model.apply(variables, 1, method="first_state")
        self._warm_up()
        self.reset()

    def reset(self) -> None:
        """Starts a new video."""
        self._state: PolicyState = self._first
        self._total = jnp.zeros((1, self._config.num_classes), jnp.float32)
        self._actions: list[int] = []
        self._kept = 0
        self._remaining = 0
        self.calls: Counter[str] = Counter()

    def push(self, frame: np.ndarray | Array) -> Step:
        """Takes the next frame.

        Args:
            frame: uint8 [S, S, 3], S = `config.model.image_size`.

        Raises:
            ValueError: a frame of a wrong shape or type.
        """
        size = self._config.image_size
        if np.shape(frame) != (size, size, 3) or frame.dtype != np.uint8:
            raise ValueError(
                f"a frame must be uint8 [{size}, {size}, 3], got {frame.dtype} "
                f"{list(np.shape(frame))}"
            )
        covered = self._remaining > 0
        called: tuple[str, ...] = ()
        if covered:
            action = self._actions[-1]
            self._remaining -= 1
            if self._config.policy.cell_state == "advancing":
                self._state, _, _ = self._look_at(jnp.asarray(frame)[None])
                called = (POLICY,)
        else:
            action, called = self._decide(jnp.asarray(frame)[None])
        self._actions.append(action)
        self.calls.update(called)
        return Step(action, covered, called)

    @property
    def logits(self) -> np.ndarray:
        """The prediction for the frames so far: float32 [C], zeros while all are skipped."""
        return np.asarray(self._total[0]) / max(1, self._kept)

    @property
    def actions(self) -> np.ndarray:
        """int32 [t], the action of every frame so far."""
        return np.array(self._actions, np.int32)

    @property
    def gflops(self) -> float:
        """GFLOPs of the frames so far by the usage formula, in the model's convention."""
        one_hot = np.eye(len(self._table.actions), dtype=np.float32)[self.actions]
        return float(video_gflops(self._table, jnp.asarray(one_hot)[None])[0])

    def _decide(self, frame: Array) -> tuple[int, tuple[str, ...]]:
        """Asks the policy and runs the backbone that it names; the action and the networks."""
        # The skip was counted down here, where a covered frame need not reach the device.
        self._state = self._state.replace(remaining=jnp.zeros(1, jnp.int32))
        self._state, decisions, lowest = self._look_at(frame)
        action = int(jnp.argmax(decisions.one_hot[0]))
        space = self._config.space
        if action >= space.num_resolutions:
            self._remaining = int(space.skip_lengths[action]) - 1
            return action, (POLICY,)
        self._kept += 1
        if action == len(self._config.backbones):
            self._total = self._total + lowest
            return action, (POLICY,)
        self._total = self._classify[action](self._variables, frame, self._total)
        return action, (POLICY, space.names[action])

    def _look_at(self, frame: Array) -> tuple[PolicyState, Any, Array | None]:
        return self._look(self._variables, frame, self._state, self._offsets)

    def _warm_up(self) -> None:
        size = self._config.image_size
        blank = jnp.zeros((1, size, size, 3), jnp.uint8)
        self.reset()
        self._look_at(blank)
        for classify in self._classify:
            jax.block_until_ready(classify(self._variables, blank, self._total))


def _add_logits(model: ARNet, index: int, variables: Any, frame: Array, total: Array) -> Array:
    """Adds one backbone's prediction on a frame to the video's sum."""
    return total + model.apply(variables, frame, index, method="classify_frame")
