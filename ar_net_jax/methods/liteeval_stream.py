"""LiteEval on a video that arrives frame by frame, such as a camera's."""

import functools
from collections import Counter
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.costs.cost import total_gflops
from ar_net_jax.methods.liteeval import LiteEval
from ar_net_jax.methods.liteeval_module import COARSE, COARSE_LSTM, FINE_LSTM
from ar_net_jax.methods.stream import Step, check_frame
from ar_net_jax.methods.uniform import network_name
from ar_net_jax.modules.gated_recurrence import OPEN, GatedState

Array = jax.Array


class LiteEvalStream:
    """One video on its way; after T frames it stands where a call on the clip of T would.

    Attributes:
        calls: how often each network was called since the start of the video, by name.
    """

    def __init__(self, method: LiteEval, variables: Any, *, cost_penalty: float = 0.0) -> None:
        """Compiles both networks, so that no frame waits for that.

        Args:
            method: under its configuration.
            variables: that fit it, on the device.
            cost_penalty: as in `Model.__call__`.
        """
        self._method, self._variables = method, variables
        self._offset = method.penalty_offset(cost_penalty)
        apply = method.module().apply
        self._glance = jax.jit(functools.partial(apply, method="glance"))
        self._inspect = jax.jit(functools.partial(apply, method="inspect"))
        self._classify = jax.jit(functools.partial(apply, method="classify"))
        self._first = cast(GatedState, apply(variables, 1, method="initial_state"))
        self._warm_up()
        self.reset()

    def reset(self) -> None:
        """Starts a new video."""
        self._state = self._first
        self._actions: list[int] = []
        self.calls: Counter[str] = Counter()

    def push(self, frame: np.ndarray | Array) -> Step:
        """Takes the next frame.

        Args:
            frame: uint8 [S, S, 3], S the higher of the two resolutions.

        Raises:
            ValueError: a frame of a wrong shape or type.
        """
        check_frame(frame, self._method.image_size)
        frames = jnp.asarray(frame)[None]
        choice, seen, shut = self._glance(self._variables, frames, self._state, self._offset)
        action = int(choice[0])
        called: tuple[str, ...] = (COARSE, COARSE_LSTM)
        if action == OPEN:
            fine = self._inspect(self._variables, frames, seen, self._state.fine)
            self._state = GatedState(shut.coarse, fine)
            called += (network_name(self._method.config.resolution), FINE_LSTM)
        else:
            self._state = shut
        self._actions.append(action)
        self.calls.update(called)
        return Step(action, False, called)

    @property
    def logits(self) -> np.ndarray:
        """The prediction for the frames so far: float32 [C]; before the first, that of no frame."""
        return np.asarray(self._classify(self._variables, self._state.fine)[0])

    @property
    def actions(self) -> np.ndarray:
        """int32 [t], the choice for every frame so far."""
        return np.array(self._actions, np.int32)

    @property
    def gflops(self) -> float:
        """GFLOPs that the frames so far needed, in the model's convention."""
        convention = self._method.config.gflops_convention
        return float(total_gflops(self._method.networks(), dict(self.calls), convention))

    def _warm_up(self) -> None:
        size = self._method.image_size
        blank = jnp.zeros((1, size, size, 3), jnp.uint8)
        _, seen, _ = self._glance(self._variables, blank, self._first, self._offset)
        fine = self._inspect(self._variables, blank, seen, self._first.fine)
        jax.block_until_ready(self._classify(self._variables, fine))
