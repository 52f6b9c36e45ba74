"""Two LSTMs over the frames of a video, of which a gate decides when the larger one takes a step.

Wu et al. 2019 (LiteEval). The coarse LSTM advances on every frame. Where the gate stays shut, its
state is written over the first entries of the fine LSTM's.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax.modules.heads import Embedding, Linear, uniform_init
from ar_net_jax.modules.recurrence import LSTMCell, LSTMState
from ar_net_jax.ops.decide import Decide

Array = jax.Array

OPEN, SHUT = 0, 1
"""Indices of the gate's two choices."""

# So that a row of zeros has a direction too.
_TINY = 1e-12


@flax.struct.dataclass
class GatedState:
    """What is carried from frame to frame: the states of both LSTMs."""

    coarse: LSTMState
    fine: LSTMState


@flax.struct.dataclass
class GatedSteps:
    """What was made of the frames of B videos.

    Attributes:
        one_hot: float32 [B, T, 2], `OPEN` or `SHUT`; zero on padding. Carries the straight-through
            gradient when sampled.
        logits: float32 [B, T, 2], of the gate, offset included.
        computed: int32 [T], how many rows the fine LSTM's step was computed for.
    """

    one_hot: Array
    logits: Array
    computed: Array


# (module, fine state, what is given about the frame [B, ...], projected coarse features [B, W],
# where the gate is open bool [B]) -> the fine state after a step there, and the rows computed.
FineStep = Callable[
    ["GatedRecurrence", LSTMState, Array, Array, Array], tuple[LSTMState, Array | int]
]


def synchronise(fine: LSTMState, coarse: LSTMState) -> LSTMState:
    """The fine state on a frame that the gate stays shut on.

    Args:
        fine: of the frame before, [B, L].
        coarse: of this frame, [B, S] with S <= L.

    Returns:
        The fine state, its first S entries those of the coarse one.
    """

    def overwrite(old: Array, new: Array) -> Array:
        return jnp.concatenate([new, old[:, new.shape[1] :]], axis=1)

    return jax.tree.map(overwrite, fine, coarse)


class ProjectedLSTM(nn.Module):
    """Features of unit length, BatchNorm, linear, BatchNorm, ReLU; then an LSTM cell.

    Attributes:
        features: D, width of the features.
        width: W, that they are projected to.
        hidden: H, units of the cell.
        beside: width of what the cell takes besides the projection.
        read: width of what the head reads.
        outputs: of the head.
        head_width: units of a layer before the head; 0 for none.
    """

    features: int
    width: int
    hidden: int
    beside: int
    read: int
    outputs: int
    head_width: int = 0

    def setup(self) -> None:
        """Declares the submodules; all of them compute in float32."""
        self.norm_in = nn.BatchNorm(momentum=0.9)
        self.projection = Linear(self.features, self.width, kernel_init=uniform_init)
        self.norm_out = nn.BatchNorm(momentum=0.9)
        self.cell = LSTMCell(self.width + self.beside, self.hidden)
        if self.head_width:
            self.embedding = Embedding(self.read)
        self.head = Linear(self.head_width or self.read, self.outputs)

    def project(self, features: Array, *, train: bool = False) -> Array:
        """Features [..., D] -> float32 [..., W]; `train` normalises by all rows together."""
        x = features.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + _TINY)
        x = self.projection(self.norm_in(x, use_running_average=not train))
        return nn.relu(self.norm_out(x, use_running_average=not train))

    def read_out(self, x: Array, *, train: bool = False) -> Array:
        """What the head makes of what it reads: [..., R] -> float32 [..., outputs]."""
        if self.head_width:
            x = self.embedding(x, train=train)
        return self.head(x)


class GatedRecurrence(nn.Module):
    """The coarse LSTM with the gate as its head, the fine one with the classifier as its.

    Attributes:
        coarse_features: width of the light network's features.
        fine_features: width of the heavy network's.
        coarse_width: W, that the former are projected to.
        fine_width: that the latter are.
        coarse_hidden: S, units of the coarse LSTM.
        fine_hidden: L, units of the fine LSTM.
        num_classes: C.
        head_width: units of a layer before the classifier; 0 for none.
    """

    coarse_features: int
    fine_features: int
    coarse_width: int
    fine_width: int
    coarse_hidden: int
    fine_hidden: int
    num_classes: int
    head_width: int = 0

    def setup(self) -> None:
        """Declares the submodules."""
        self.coarse = ProjectedLSTM(
            self.coarse_features,
            self.coarse_width,
            self.coarse_hidden,
            beside=0,
            read=self.coarse_width + 2 * self.fine_hidden,
            outputs=2,
        )
        self.fine = ProjectedLSTM(
            self.fine_features,
            self.fine_width,
            self.fine_hidden,
            beside=self.coarse_width,
            read=self.fine_hidden,
            outputs=self.num_classes,
            head_width=self.head_width,
        )

    def initial_state(self, batch: int) -> GatedState:
        """The state before the first frame of `batch` videos: zeros."""
        return GatedState(
            self.coarse.cell.initial_state(batch), self.fine.cell.initial_state(batch)
        )

    def project_coarse(self, features: Array, *, train: bool = False) -> Array:
        """What the gate and both cells read: light features [..., D] -> float32 [..., W]."""
        return self.coarse.project(features, train=train)

    def coarse_gates(self, seen: Array) -> Array:
        """The input's share of the coarse cell's gates: [..., W] -> [..., 4S]."""
        return self.coarse.cell.project(seen)

    def fine_gates(self, features: Array, seen: Array, *, train: bool = False) -> Array:
        """The input's share of the fine cell's gates: [..., 4L].

        Args:
            features: of the heavy network, [..., D].
            seen: from `project_coarse`, float32 [..., W].
            train: as in `project_coarse`.
        """
        projected = self.fine.project(features, train=train)
        return self.fine.cell.project(jnp.concatenate([projected, seen], axis=-1))

    def fine_step(self, fine: LSTMState, gates: Array) -> LSTMState:
        """One step of the fine LSTM; gates [B, 4L] from `fine_gates`."""
        return self.fine.cell.step(fine, gates)

    def classify(self, fine: LSTMState, *, train: bool = False) -> Array:
        """The video's logits float32 [B, C], from the fine state after its last frame."""
        return self.fine.read_out(fine.hidden, train=train)

    def glance(
        self, state: GatedState, seen: Array, gates: Array, offset: Array | None = None
    ) -> tuple[Array, GatedState]:
        """The coarse step and the gate's opinion on a frame.

        Args:
            state: after the frame before.
            seen: from `project_coarse`, float32 [B, W].
            gates: from `coarse_gates`, float32 [B, 4S].
            offset: float32 [2], on the gate's logits.

        Returns:
            The gate's logits float32 [B, 2], and the state if it stays shut.
        """
        read = jnp.concatenate([seen, state.fine.hidden, state.fine.cell], axis=-1)
        logits = self.coarse.read_out(read)
        coarse = self.coarse.cell.step(state.coarse, gates)
        shut = GatedState(coarse, synchronise(state.fine, coarse))
        return (logits if offset is None else logits + offset), shut

    def unroll(
        self,
        seen: Array,
        given: Array,
        mask: Array,
        decide: Decide[Any],
        keys: Array | None,
        fine_step: FineStep,
    ) -> tuple[GatedSteps, LSTMState]:
        """Runs gate and LSTMs over time.

        Args:
            seen: from `project_coarse`, float32 [B, T, W].
            given: [B, T, ...], what `fine_step` takes about each frame.
            mask: bool [B, T], False on padding at the end of a video, where the state stays.
            decide: how a choice follows from the gate's logits.
            keys: one per video [B], for decisions that are drawn.
            fine_step: the fine LSTM's step.

        Returns:
            What was decided, and the fine state after the last frame.
        """

        def step(
            module: GatedRecurrence, state: GatedState, inputs: tuple[Array, ...]
        ) -> tuple[GatedState, tuple[Array, Array, Array]]:
            seen, gates, given, valid, chosen = inputs
            logits, shut = module.glance(state, seen, gates, decide.offset)
            one_hot = decide.choose(logits, chosen) * valid[:, None]
            weight = one_hot[:, :, None]
            opened, computed = fine_step(module, state.fine, given, seen, one_hot[:, OPEN] > 0.5)
            # A weighted sum, through which the gate learns; the weights are exactly 0 and 1.
            fine = jax.tree.map(
                lambda new, old: weight[:, OPEN] * new + weight[:, SHUT] * old, opened, shut.fine
            )
            after = jax.tree.map(
                lambda new, old: jnp.where(valid[:, None], new, old),
                GatedState(shut.coarse, fine),
                state,
            )
            return after, (one_hot, logits, jnp.asarray(computed, jnp.int32))

        batch, length = mask.shape
        chosen = decide.inputs(keys, length, 2)
        inputs = (seen, self.coarse_gates(seen), given, mask, chosen)
        scan = nn.scan(
            step,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=(1, 1, 0),
        )
        state, steps = scan(self, self.initial_state(batch), inputs)
        return GatedSteps(*steps), state.fine
