"""The straight-through Gumbel-Softmax of equations 5 to 8."""

import jax
import jax.numpy as jnp

Array = jax.Array

# The released code clamps the probabilities at this value before taking the logarithm.
MIN_PROBABILITY = 1e-8
# Well within what float32 holds.
MIN_TEMPERATURE = 1e-30
# Here the relaxation is a step already. Much lower, rounding would make a softmax of infinities.
_STEP_TEMPERATURE = 1e-6
# What float32 holds.
MAX_TEMPERATURE = 1e38


def gumbel_noise(keys: Array, num_frames: int, num_actions: int) -> Array:
    """Standard Gumbel noise G for B videos, each from its own key: float32 [B, T, A]."""
    shape = (num_frames, num_actions)
    return jax.vmap(lambda key: jax.random.gumbel(key, shape, jnp.float32))(keys)


def log_probabilities(logits: Array) -> Array:
    """Log p of equation 5, clamped from below as the released code does: [..., A]."""
    return jnp.log(jnp.maximum(jax.nn.softmax(logits, axis=-1), MIN_PROBABILITY))


def sample(logits: Array, noise: Array, tau: Array | float) -> Array:
    """A one-hot sample (eq. 6, 7) whose gradient is that of the relaxation (eq. 8).

    Args:
        logits: float32 [..., A], z in the paper.
        noise: float32 [..., A], standard Gumbel noise.
        tau: temperature, from MIN_TEMPERATURE to MAX_TEMPERATURE.

    Returns:
        float32 [..., A], exactly one-hot in the forward pass.
    """
    perturbed = log_probabilities(logits) + noise
    soft = jax.nn.softmax(perturbed / jnp.maximum(tau, _STEP_TEMPERATURE), axis=-1)
    # In this order the difference is exactly zero, so the forward value is exactly one-hot.
    return argmax_one_hot(perturbed) + (soft - jax.lax.stop_gradient(soft))


def argmax_one_hot(logits: Array) -> Array:
    """The most likely action as a one-hot vector, without gradient: float32 [..., A]."""
    return jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=jnp.float32)


def temperature(epoch: jax.typing.ArrayLike, tau0: float = 5.0, rate: float = -0.045) -> jax.Array:
    """Gumbel-Softmax temperature, annealed exponentially (section 4.1 of the paper).

    Args:
        epoch: epochs since the start of the joint stage; a number or an array.
        tau0: temperature at epoch 0.
        rate: exponent per epoch.

    Returns:
        float32 `tau0 * exp(rate * epoch)`, of the shape of `epoch`.

    >>> round(float(temperature(46)), 4)
    0.6309
    """
    return jnp.asarray(tau0 * jnp.exp(rate * jnp.asarray(epoch, jnp.float32)), jnp.float32)
