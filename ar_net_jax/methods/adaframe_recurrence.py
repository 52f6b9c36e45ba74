"""The LSTM of AdaFrame; see `methods.adaframe`."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.config.model import Head
from ar_net_jax.modules.heads import Embedding, Linear
from ar_net_jax.modules.memory import Memory, attend
from ar_net_jax.modules.recurrence import LSTMCell, LSTMState
from ar_net_jax.ops.pooling import running_maximum

Array = jax.Array


class AdaFrameRecurrence(nn.Module):
    """The LSTM, where it looks in the memory, and what it says of its state.

    Attributes:
        features: width of the heavy network's features.
        memory_features: D, of the light one's.
        hidden_size: H.
        num_classes: C.
        head: see `ModelConfig`; under `max_mlp` the maximum is over the steps' embeddings.
        head_width: of the layer before the classifier; 0 where there is none.
    """

    features: int
    memory_features: int
    hidden_size: int
    num_classes: int
    head: Head
    head_width: int

    def setup(self) -> None:
        """Declares the submodules."""
        size = self.hidden_size
        self.lstm = LSTMCell(self.features + self.memory_features, size)
        self.query = Linear(size, self.memory_features)
        self.location = Linear(size, 1)
        self.utility = Linear(size, 1)
        if self.head == "max_mlp":
            self.embedding = Embedding(size)
        self.classifier = Linear(self.head_width or size, self.num_classes)

    def initial_state(self, batch: int) -> LSTMState:
        """The state before the first step."""
        return self.lstm.initial_state(batch)

    def step(self, state: LSTMState, row: Array, memory: Memory) -> tuple[LSTMState, Array, Array]:
        """One step.

        Args:
            state: before it.
            row: features of its frame, float32 [B, F].
            memory: of the videos.

        Returns:
            The state after it; the mean of the next location, float32 [B] in [0, 1]; and the
            utility, float32 [B].
        """
        context = attend(self.query(state.hidden), memory)
        state = self.lstm.step(state, self.lstm.project(jnp.concatenate([row, context], axis=-1)))
        mean = nn.sigmoid(self.location(state.hidden))[:, 0]
        return state, mean, self.utility(state.hidden)[:, 0]

    def classify(self, hidden: Array, walked: Array, *, train: bool = False) -> Array:
        """The prediction after each step: float32 [B, L, H] and bool [B, L] to [B, L, C]."""
        if self.head == "mean":
            return self.classifier(hidden)
        return self.classifier(running_maximum(self.embedding(hidden, train=train), walked))
