"""REINFORCE: learning from rewards that have no gradient (Williams 1992)."""

import jax
import jax.numpy as jnp

Array = jax.Array


def policy_gradient_loss(log_probability: Array, advantage: Array) -> Array:
    """A scalar whose gradient is the policy gradient's estimate, negated.

    Args:
        log_probability: float32 [...], of what was drawn; the gradient goes through it alone.
        advantage: float32 [...], how much better than expected that turned out; no gradient.

    Returns:
        float32 scalar, the mean of minus their product.
    """
    return -jnp.mean(jax.lax.stop_gradient(advantage) * log_probability)


def discounted_returns(rewards: Array, discount: float) -> Array:
    """What is still to come from each step on: R_t = r_t + discount * R_(t+1).

    Args:
        rewards: float32 [B, K], by step.
        discount: from 0 to 1.

    Returns:
        float32 [B, K].
    """

    def step(later: Array, reward: Array) -> tuple[Array, Array]:
        total = reward + discount * later
        return total, total

    start = jnp.zeros(rewards.shape[0], rewards.dtype)
    _, returns = jax.lax.scan(step, start, jnp.moveaxis(rewards, 1, 0), reverse=True)
    return jnp.moveaxis(returns, 0, 1)


def gaussian_log_probability(x: Array, mean: Array, variance: float) -> Array:
    """Log density of a normal distribution, float32 of the shape of `x`."""
    return -0.5 * (jnp.square(x - mean) / variance + jnp.log(2 * jnp.pi * variance))
