"""The training objective, equations 9 to 12."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax

from ar_net_jax.config.config import LossConfig

Array = jax.Array


def classification_loss(
    logits: Array,
    labels: Array,
    kind: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy",
) -> Array:
    """Equation 9, averaged over the videos.

    Args:
        logits: float32 [B, C].
        labels: int32 [B, K], the main one first, padded with -1.
        kind: cross-entropy on the first label as released, or binary cross-entropy on all labels,
            averaged over classes.

    Returns:
        float32 scalar.

    >>> round(float(classification_loss(jnp.zeros((1, 4)), jnp.array([[2, -1]]))), 4)
    1.3863
    """
    if kind == "cross_entropy":
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[:, 0])
        return jnp.mean(losses)
    # one_hot of -1 is a row of zeros, so padding drops out.
    targets = jnp.max(jax.nn.one_hot(labels, logits.shape[-1]), axis=1)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, targets))


def efficiency_loss(one_hot: Array, action_gflops: Array) -> Array:
    """Equation 10: mean GFLOPs per frame of the chosen actions, the policy's own cost left out.

    Args:
        one_hot: float32 [B, T, A].
        action_gflops: float32 [A].

    Returns:
        float32 scalar, GFLOPs per frame.
    """
    return jnp.mean(jnp.sum(one_hot * action_gflops, axis=-1))


def uniform_loss(
    one_hot: Array,
    norm: Literal["squared", "euclidean"] = "squared",
    batch_usage: Array | None = None,
) -> Array:
    """Equation 11: how far the usage of actions in the batch is from uniform.

    Args:
        one_hot: float32 [B, T, A].
        norm: `squared` as in the paper, or `euclidean`, the norm itself, as released.
        batch_usage: float32 [A], given where `one_hot` is one of several equal parts of a batch:
            the usage in the whole. Value and gradient are then those of the whole batch's loss,
            as far as they depend on this part, times the number of parts; so the mean over the
            parts is exact, though the loss is not linear in the usage.

    Returns:
        float32 scalar; 0 when every action is used equally.

    >>> float(uniform_loss(jnp.array([[[1.0, 0.0]]])))
    0.5
    """
    usage = jnp.mean(one_hot, axis=(0, 1))
    if batch_usage is not None:
        usage += jax.lax.stop_gradient(batch_usage - usage)
    squared = jnp.sum(jnp.square(usage - jnp.mean(usage)))
    if norm == "squared":
        return squared
    # The gradient of the norm is undefined at exactly uniform usage; there it is taken as zero.
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)


def total_loss(
    config: LossConfig,
    logits: Array,
    labels: Array,
    one_hot: Array,
    action_gflops: Array,
    batch_usage: Array | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Equation 12.

    Args:
        config: weights and variants.
        logits: float32 [B, C].
        labels: int32 [B, K], padded with -1.
        one_hot: float32 [B, T, A].
        action_gflops: float32 [A].
        batch_usage: as in `uniform_loss`.

    Returns:
        The loss, and its parts by name, unweighted.
    """
    parts = {
        "accuracy": classification_loss(logits, labels, config.classification),
        "efficiency": efficiency_loss(one_hot, action_gflops),
        "uniform": uniform_loss(one_hot, config.uniform_norm, batch_usage),
    }
    loss = (
        config.accuracy_weight * parts["accuracy"]
        + config.efficiency_weight * parts["efficiency"]
        + config.uniform_weight * parts["uniform"]
    )
    return loss, parts
