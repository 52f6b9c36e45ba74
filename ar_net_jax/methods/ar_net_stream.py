"""AR-Net on a video that arrives frame by frame, such as a camera's.

Each frame calls only the networks it needs. On a frame that a skip covers that is none where the
cell state is frozen (`paper`), and the policy's extractor and LSTM where it advances (`released`).
"""

import dataclasses
import functools
from collections import Counter
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.costs.cost import total_gflops
from ar_net_jax.methods.ar_net import ARNet, ARNetModule
from ar_net_jax.methods.stream import Step, check_frame
from ar_net_jax.modules.multi_backbone import POLICY
from ar_net_jax.modules.policy import PolicyState, PolicySteps

Array = jax.Array


class ARNetStream:
    """One video on its way; after T frames it stands where a call on the clip of T would.

    Attributes:
        calls: how often each network was called since the start of the video, by name.
    """

    def __init__(self, method: ARNet, variables: Any, *, cost_penalty: float = 0.0) -> None:
        """Compiles every network, so that no frame waits for that.

        Args:
            method: under its configuration.
            variables: that fit it, on the device.
            cost_penalty: as in `Model.__call__`.
        """
        self._method, self._config, self._variables = method, method.config, variables
        self._offset = method.penalty_offset(cost_penalty)
        model = method.module()
        self._look = jax.jit(functools.partial(model.apply, method="look_at"))
        self._classify = [
            jax.jit(functools.partial(_add_frame, model, i))
            for i in range(len(self._config.backbones))
        ]
        self._merge = jax.jit(functools.partial(model.apply, method="merge"))
        self._predict = jax.jit(functools.partial(model.apply, method="summary_logits"))
        self._first = cast(PolicyState, model.apply(variables, 1, method="first_state"))
        self._warm_up()
        self.reset()

    def reset(self) -> None:
        """Starts a new video."""
        self._state: PolicyState = self._first
        width = self._config.head_width or self._config.num_classes
        self._summary = jnp.zeros((1, width), jnp.float32)
        self._frames = np.zeros((1, self._config.space.num_resolutions), np.float32)
        self._actions: list[int] = []
        self._remaining = 0
        self.calls: Counter[str] = Counter()

    def push(self, frame: np.ndarray | Array) -> Step:
        """Takes the next frame.

        Args:
            frame: uint8 [S, S, 3], S the highest resolution.

        Raises:
            ValueError: a frame of a wrong shape or type.
        """
        check_frame(frame, self._method.image_size)
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
        return np.asarray(self._predict(self._variables, self._summary, self._frames)[0])

    @property
    def actions(self) -> np.ndarray:
        """int32 [t], the action of every frame so far."""
        return np.array(self._actions, np.int32)

    @property
    def gflops(self) -> float:
        """GFLOPs of the frames so far by the usage formula, in the model's convention."""
        choices, convention = self._method.choices, self._config.gflops_convention
        usage = np.bincount(self.actions, minlength=len(choices)) / max(1, len(self._actions))
        calls = choices.expected(usage, len(self._actions))
        return float(total_gflops(self._method.networks(), calls, convention))

    def _decide(self, frame: Array) -> tuple[int, tuple[str, ...]]:
        """Asks the policy and runs the backbone that it names; the action and the networks."""
        # The skip was counted down here, where a covered frame need not reach the device.
        self._state = dataclasses.replace(self._state, remaining=jnp.zeros(1, jnp.int32))
        self._state, decisions, lowest = self._look_at(frame)
        action = int(jnp.argmax(decisions.one_hot[0]))
        space = self._config.space
        if action >= space.num_resolutions:
            self._remaining = int(space.skip_lengths[action]) - 1
            return action, (POLICY,)
        self._frames[0, action] += 1
        if action == len(self._config.backbones):
            assert lowest is not None  # The policy serves the lowest resolution.
            self._summary = self._merge(self._variables, self._summary, lowest)
            return action, (POLICY,)
        self._summary = self._classify[action](self._variables, frame, decisions, self._summary)
        return action, (POLICY, space.names[action])

    def _look_at(self, frame: Array) -> tuple[PolicyState, Any, Array | None]:
        return self._look(self._variables, frame, self._state, self._offset)

    def _warm_up(self) -> None:
        size = self._method.image_size
        blank = jnp.zeros((1, size, size, 3), jnp.uint8)
        self.reset()
        _, decisions, _ = self._look_at(blank)
        for classify in self._classify:
            jax.block_until_ready(classify(self._variables, blank, decisions, self._summary))
        self._merge(self._variables, self._summary, self._summary)
        jax.block_until_ready(self._predict(self._variables, self._summary, self._frames))


def _add_frame(
    model: ARNetModule,
    index: int,
    variables: Any,
    frame: Array,
    decisions: PolicySteps,
    summary: Array,
) -> Array:
    """Adds one backbone's row of a frame to what is known of the video."""
    row = cast(Array, model.apply(variables, frame, index, method="classify_frame"))
    row = decisions.weighted(row)
    return cast(Array, model.apply(variables, summary, row, method="merge"))
