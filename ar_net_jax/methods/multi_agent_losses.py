"""What MultiAgent's agents learn to move by: how the classifier fares where they come to."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ar_net_jax.config.schema import require
from ar_net_jax.losses import Loss, LossContext
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.reinforce import discounted_returns, policy_gradient_loss

Array = jax.Array


def move_rewards(frame_logits: Array, places: Array, labels: Array) -> Array:
    """What each agent gains by each move.

    Args:
        frame_logits: float32 [B, T, C], what is made of each frame by itself.
        places: int32 [B, S + 1, N], where the agents are before the first move and after each.
        labels: int32 [B].

    Returns:
        float32 [B, S, N]: 1 where the frame's prediction becomes right, -1 where it becomes
        wrong, else by how much the probability of the right class rises.
    """
    at = (jnp.arange(places.shape[0])[:, None, None], places)
    probabilities = jax.nn.softmax(frame_logits)
    own = jnp.take_along_axis(probabilities, labels[:, None, None], axis=2)[..., 0][at]
    right = (jnp.argmax(frame_logits, axis=-1) == labels[:, None])[at].astype(jnp.float32)
    turned = jnp.diff(right, axis=1)
    return jnp.where(turned == 0, jnp.diff(own, axis=1), turned)


@dataclass(frozen=True)
class Moves(Loss):
    """REINFORCE on the agents' moves, less a share of their entropy.

    The baseline of a step is the mean return of all agents in it, over the videos that go through
    at once.

    Attributes:
        discount: of later moves' rewards.
        entropy: the weight of the entropy, which keeps the agents trying.
    """

    name = "moves"
    needs = ("frame_logits", "places", "moved", "move_log_probability", "move_entropy")

    discount: float = 0.9
    entropy: float = 0.01

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        given = prediction.outputs
        moved = given["moved"][..., None].astype(jnp.float32)
        rewards = move_rewards(given["frame_logits"], given["places"], context.labels[:, 0])
        batch, steps, agents = rewards.shape
        by_agent = jnp.moveaxis(rewards * moved, 1, 2).reshape(-1, steps)
        returns = discounted_returns(by_agent, self.discount)
        returns = jnp.moveaxis(returns.reshape(batch, agents, steps), 2, 1)
        taken = jnp.sum(moved, axis=0) * agents
        baseline = jnp.sum(returns * moved, axis=(0, 2)) / jnp.maximum(taken[:, 0], 1)
        advantage = (returns - baseline[:, None]) * moved
        entropy = jnp.mean(given["move_entropy"] * moved)
        policy = policy_gradient_loss(given["move_log_probability"], advantage)
        return policy - self.entropy * entropy

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(0 <= self.discount <= 1, f"{path}.discount", "must lie in [0, 1]")
        require(self.entropy >= 0, f"{path}.entropy", "must not be negative")
