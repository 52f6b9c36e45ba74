"""A video's prediction after each of its frames, from the maximum of embeddings so far."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ar_net_jax.config.model import HEAD_WIDTH
from ar_net_jax.modules.heads import Embedding, linear_init
from ar_net_jax.ops.pooling import running_maximum
from ar_net_jax.ops.rng import dropout

Array = jax.Array

# Keeps the dropout masks of these layers apart from those of others with the same keys.
STEP_SALT = 1_002


def step_classifier_macs(inputs: int, outputs: int, beside: int = 0) -> int:
    """Multiply-accumulates on one frame, its step's classifier included; see `StepClassifier`."""
    return HEAD_WIDTH * (inputs + outputs) + beside * outputs


class StepLinear(nn.Module):
    """A linear layer of its own for every step; steps beyond the last share the last one.

    Attributes:
        steps: K.
        inputs: D.
        outputs: C.
        dropout: rate on what enters.
    """

    steps: int
    inputs: int
    outputs: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, first: Array | int = 0, keys: Array | None = None) -> Array:
        """Each step's result.

        Args:
            x: float32 [B, T, D].
            first: the step of the first of these T, from 0.
            keys: one per video and step [B * T] for dropout, or None.

        Returns:
            float32 [B, T, C].
        """
        shape = (self.steps, self.inputs, self.outputs)
        kernel = self.param("kernel", linear_init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.steps, self.outputs), jnp.float32)
        step = jnp.minimum(first + jnp.arange(x.shape[1]), self.steps - 1)
        kernel, bias = jnp.take(kernel, step, axis=0), jnp.take(bias, step, axis=0)
        rows = dropout(x.reshape(-1, self.inputs), self.dropout, keys, STEP_SALT)
        x, highest = rows.reshape(x.shape), jax.lax.Precision.HIGHEST
        return jnp.einsum("btd,tdc->btc", x, kernel, precision=highest) + bias


class StepClassifier(nn.Module):
    """Embedding, running maximum, and a linear classifier for every step.

    Attributes:
        inputs: D, width of a frame's features.
        steps: K.
        outputs: C.
        dropout: rate before each classifier.
        beside: width of what every classifier reads beside the maximum; 0 for nothing.
    """

    inputs: int
    steps: int
    outputs: int
    dropout: float
    beside: int = 0

    def setup(self) -> None:
        """Declares the submodules."""
        self.embedding = Embedding(self.inputs)
        self.linear = StepLinear(self.steps, HEAD_WIDTH + self.beside, self.outputs, self.dropout)

    def __call__(
        self,
        features: Array,
        maximum: Array,
        selected: Array,
        *,
        first: Array | int = 0,
        beside: Array | None = None,
        train: bool = False,
        keys: Array | None = None,
    ) -> tuple[Array, Array]:
        """Predicts after each of T frames.

        Args:
            features: float32 [B, T, D].
            maximum: float32 [B, HEAD_WIDTH], of the frames before; zeros before the first.
            selected: bool [B, T]; a frame that is not adds nothing.
            first: the step of the first frame, from 0.
            beside: float32 [B, D], what the classifiers read beside the maximum.
            train: normalise by the batch and update the running statistics.
            keys: one per frame [B * T] for dropout, or None.

        Returns:
            logits float32 [B, T, C], and the maximum with these frames.
        """
        rows = self.embedding(features, train=train)
        maxima = jnp.maximum(running_maximum(rows, selected), maximum[:, None])
        read = maxima
        if beside is not None:
            spread = jnp.broadcast_to(beside[:, None], (*maxima.shape[:2], self.beside))
            read = jnp.concatenate([maxima, spread], axis=-1)
        return self.linear(read, first, keys), maxima[:, -1]
