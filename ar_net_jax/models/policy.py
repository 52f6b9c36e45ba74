"""The policy network: features of every frame at low resolution, LSTM over time, decisions.

Equations 1 to 3 of the paper. Decisions and recurrence are one scan, because a skip restores the
hidden state on the frames it covers.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ar_net_jax.actions import ActionSpace, advance_skip
from ar_net_jax.architectures import feature_dim
from ar_net_jax.config import PolicyConfig
from ar_net_jax.models import gumbel
from ar_net_jax.models.backbones import make_backbone
from ar_net_jax.models.classifier import POLICY_SALT, Linear, matmul
from ar_net_jax.models.lstm_cell import LSTMCell, lstm_step
from ar_net_jax.models.random import dropout

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


class PolicyNetwork(nn.Module):
    """Feature extractor, LSTM, decision head and, where it is an action, the lowest head.

    Attributes:
        config: see `PolicyConfig`.
        space: the action space.
        num_classes: C.
        dtype: computation type of the extractor.
        padding: padding rule of an EfficientNet extractor.
    """

    config: PolicyConfig
    space: ActionSpace
    num_classes: int
    dtype: jnp.dtype = jnp.float32
    padding: str = "same"

    def setup(self) -> None:
        """Declares the submodules."""
        cfg = self.config
        self.backbone = make_backbone(cfg.backbone, dtype=self.dtype, padding=self.padding)
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
        use_skips: bool = True,
    ) -> Decisions:
        """Runs LSTM and decision head over time.

        Args:
            features: float32 [B, T, D].
            sampling: noise and temperature; None takes the most likely action.
            proposals: int32 [B, T], decisions imposed from outside instead of the network's own;
                they are subject to skip coverage like any other.
            use_skips: False lets a skip drop only the frame it is chosen on (the released
                Random policy).
        """
        lengths = jnp.asarray(self.space.skip_lengths * int(use_skips), jnp.int32)
        recurrent = self.lstm.recurrent()
        decision_kernel, decision_bias = self.decision.weights()
        frozen_cell = self.config.cell_state == "frozen"

        def choose(logits: Array, noise: Array | None, proposal: Array | None) -> Array:
            if proposal is not None:
                return jax.nn.one_hot(proposal, self.space.num_actions, dtype=jnp.float32)
            if sampling is not None:
                return gumbel.sample(logits, noise, sampling.tau)
            return gumbel.argmax_one_hot(logits)

        def step(carry: tuple, inputs: tuple) -> tuple[tuple, tuple]:
            hidden, cell, remaining, previous = carry
            projected, noise, proposal = inputs
            new_hidden, new_cell = lstm_step(projected, hidden, cell, recurrent)
            logits = matmul(new_hidden, decision_kernel) + decision_bias
            proposed = choose(logits, noise, proposal)
            covered, remaining = advance_skip(remaining, lengths[jnp.argmax(proposed, -1)])
            hold = covered[:, None]
            one_hot = jnp.where(hold, previous, proposed)
            hidden = jnp.where(hold, hidden, new_hidden)
            cell = jnp.where(hold, cell, new_cell) if frozen_cell else new_cell
            return (hidden, cell, remaining, one_hot), (one_hot, covered, logits, new_hidden)

        batch = features.shape[0]
        state = jnp.zeros((batch, self.config.hidden_size))
        first = jnp.zeros((batch, self.space.num_actions))
        carry = (state, state, jnp.zeros(batch, jnp.int32), first)
        inputs = (self.lstm.project(features), None if sampling is None else sampling.noise)
        inputs = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (*inputs, proposals))
        _, outputs = jax.lax.scan(step, carry, inputs)
        return Decisions(*(jnp.swapaxes(x, 0, 1) for x in outputs))

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
