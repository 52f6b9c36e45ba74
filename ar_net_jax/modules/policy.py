"""The policy network: features of every frame at low resolution, LSTM over time, decisions.

Equations 1 to 3 of the paper. Decisions and recurrence are one scan, because a skip restores the
hidden state on the frames it covers.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.backbones.architectures import feature_dim
from ar_net_jax.backbones.make import make_backbone
from ar_net_jax.config.config import PolicyConfig
from ar_net_jax.modules.heads import POLICY_SALT, Linear, matmul
from ar_net_jax.modules.recurrence import LSTMCell, lstm_step
from ar_net_jax.ops import gumbel
from ar_net_jax.ops.actions import ActionSpace, advance_skip
from ar_net_jax.ops.rng import dropout

Array = jax.Array


@flax.struct.dataclass
class Decisions:
    """What the policy made of B videos of T frames.

    Attributes:
        one_hot: float32 [B, T, A], the action of every frame, a skip repeated on the frames it
            covers; carries the straight-through gradient when sampled.
        covered: bool [B, T], frames on which an earlier skip holds.
        logits: float32 [B, T, A], of the decision head.
        hidden: float32 [B, T, H], the freshly computed hidden state, before any restoring.
    """

    one_hot: Array
    covered: Array
    logits: Array
    hidden: Array


@flax.struct.dataclass
class Sampling:
    """How to decide: by Gumbel-Softmax with this noise (float32 [B, T, A]) at this temperature."""

    noise: Array
    tau: Array | float


@flax.struct.dataclass
class PolicyState:
    """What the policy carries from frame to frame.

    Attributes:
        hidden: float32 [B, H], restored on covered frames.
        cell: float32 [B, H].
        remaining: int32 [B], how many frames from here on an earlier skip still covers.
        one_hot: float32 [B, A], the action of the frame before.
    """

    hidden: Array
    cell: Array
    remaining: Array
    one_hot: Array


class PolicyNetwork(nn.Module):
    """Feature extractor, LSTM, decision head and, where it is an action, the lowest head.

    All of it computes in float32: what is decided must not hang on rounding, and a small extractor
    at low resolution has little to gain.

    Attributes:
        config: see `PolicyConfig`.
        space: the action space.
        num_classes: C.
        padding: padding rule of an EfficientNet extractor.
        norm: settings of an EfficientNet extractor's BatchNorms.
        remat: of the extractor, see `ModelConfig`.
    """

    config: PolicyConfig
    space: ActionSpace
    num_classes: int
    padding: str = "same"
    norm: str = "tensorflow"
    remat: bool = False

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        self.backbone = make_backbone(
            cfg.backbone,
            padding=self.padding,
            norm=self.norm,
            remat=self.remat,
        )
        width = feature_dim(cfg.backbone)
        self.lstm = LSTMCell(width, cfg.hidden_size)
        self.decision = Linear(cfg.hidden_size, self.space.num_actions)
        if cfg.is_action:
            read = cfg.hidden_size if cfg.lowest_head == "hidden" else width
            self.lowest_head = Linear(read, self.num_classes)
        self.warmup_head = Linear(width, self.num_classes)

    def features(self, frames: Array, *, train: bool = False, keys: Array | None = None) -> Array:
        """Features f_t of eq. 1 after dropout: normalised [N, s, s, 3] -> float32 [N, D]."""
        features = self.backbone(frames, train=train, keys=keys)
        return dropout(features, self.config.dropout, keys, POLICY_SALT)

    def decide(
        self,
        features: Array,
        *,
        sampling: Sampling | None = None,
        proposals: Array | None = None,
        offsets: Array | None = None,
        use_skips: bool = True,
    ) -> Decisions:
        """Runs LSTM and decision head over time.

        Args:
            features: float32 [B, T, D].
            sampling: noise and temperature; None takes the most likely action.
            proposals: int32 [B, T], decisions imposed from outside instead of the network's own;
                they are subject to skip coverage like any other.
            offsets: float32 [A], added to the decision head's logits.
            use_skips: False lets a skip drop only the frame it is chosen on (the released
                Random policy).
        """
        # Read out here: a scan's body must not touch the module's variables.
        weights = self._recurrence()
        lengths = self.space.skip_lengths * int(use_skips)

        def step(carry: PolicyState, inputs: tuple) -> tuple[PolicyState, Decisions]:
            projected, noise, proposal = inputs
            chosen = None if noise is None else Sampling(noise, sampling.tau)
            return self._advance(
                carry, projected, weights, lengths, chosen, proposal=proposal, offsets=offsets
            )

        inputs = (self.lstm.project(features), None if sampling is None else sampling.noise)
        inputs = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (*inputs, proposals))
        _, outputs = jax.lax.scan(step, self.initial_state(features.shape[0]), inputs)
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), outputs)

    def initial_state(self, batch: int) -> PolicyState:
        """The state before the first frame of `batch` videos."""
        zeros = jnp.zeros((batch, self.config.hidden_size))
        none_yet = jnp.zeros((batch, self.space.num_actions))
        return PolicyState(zeros, zeros, jnp.zeros(batch, jnp.int32), none_yet)

    def decide_frame(
        self,
        state: PolicyState,
        features: Array,
        *,
        sampling: Sampling | None = None,
        offsets: Array | None = None,
    ) -> tuple[PolicyState, Decisions]:
        """One frame of `decide`, for a video that arrives frame by frame.

        Args:
            state: from `initial_state` or from the frame before.
            features: float32 [B, D].
            sampling: noise float32 [B, A] and temperature; None takes the most likely action.
            offsets: as in `decide`.

        Returns:
            The next state, and `Decisions` without the time axis.
        """
        return self._advance(
            state,
            self.lstm.project(features),
            self._recurrence(),
            self.space.skip_lengths,
            sampling,
            offsets=offsets,
        )

    def _recurrence(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Weights of the LSTM's recurrent half and of the decision head."""
        return self.lstm.recurrent(), self.decision.weights()

    def _advance(
        self,
        state: PolicyState,
        projected: Array,
        weights: tuple[tuple[Array, Array], tuple[Array, Array]],
        lengths: np.ndarray,
        sampling: Sampling | None,
        *,
        proposal: Array | None = None,
        offsets: Array | None = None,
    ) -> tuple[PolicyState, Decisions]:
        """One time step: recurrence, decision, skip bookkeeping (released-code rules)."""
        recurrent, (kernel, bias) = weights
        hidden, cell = lstm_step(projected, state.hidden, state.cell, recurrent)
        logits = matmul(hidden, kernel) + bias
        if offsets is not None:
            logits = logits + offsets
        if proposal is not None:
            proposed = jax.nn.one_hot(proposal, self.space.num_actions, dtype=jnp.float32)
        elif sampling is not None:
            proposed = gumbel.sample(logits, sampling.noise, sampling.tau)
        else:
            proposed = gumbel.argmax_one_hot(logits)
        length = jnp.asarray(lengths, jnp.int32)[jnp.argmax(proposed, -1)]
        covered, remaining = advance_skip(state.remaining, length)
        hold = covered[:, None]
        one_hot = jnp.where(hold, state.one_hot, proposed)
        frozen_cell = self.config.cell_state == "frozen"
        carried = PolicyState(
            hidden=jnp.where(hold, state.hidden, hidden),
            cell=jnp.where(hold, state.cell, cell) if frozen_cell else cell,
            remaining=remaining,
            one_hot=one_hot,
        )
        return carried, Decisions(one_hot, covered, logits, hidden)

    def lowest_logits(self, features: Array, decisions: Decisions) -> Array:
        """The lowest resolution's prediction on every frame: float32 [B, T, C].

        Args:
            features: float32 [B, T, D] from `features`.
            decisions: from `decide`.
        """
        if self.config.lowest_head == "hidden":
            return self.lowest_head(decisions.hidden)
        return self.lowest_head(features)

    def warmup_logits(self, features: Array) -> Array:
        """Predictions straight from the features, to train the extractor in the warm-up.

        That is the lowest head itself where it reads features, else a temporary classifier.
        """
        if self.config.is_action and self.config.lowest_head == "features":
            return self.lowest_head(features)
        return self.warmup_head(features)
