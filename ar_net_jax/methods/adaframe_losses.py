"""What AdaFrame learns to look by: how much surer of the right class each step makes it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ar_net_jax.config.schema import require
from ar_net_jax.losses import Loss, LossContext
from ar_net_jax.modules.prediction import Prediction
from ar_net_jax.ops.reinforce import discounted_returns, policy_gradient_loss

Array = jax.Array


def margin_gains(logits: Array, labels: Array) -> Array:
    """By how much each step surpasses the highest margin of the steps before it.

    The margin is the probability of the right class less the highest other one.

    Args:
        logits: float32 [B, K, C], the prediction after each step.
        labels: int32 [B].

    Returns:
        float32 [B, K - 1], not negative: of the steps from the second on.
    """
    probabilities = jax.nn.softmax(logits)
    right = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)[:, None]
    own = jnp.sum(jnp.where(right, probabilities, 0), axis=-1)
    margin = own - jnp.max(jnp.where(right, -jnp.inf, probabilities), axis=-1)
    highest = jax.lax.cummax(margin, axis=1)
    return jnp.maximum(margin[:, 1:] - highest[:, :-1], 0)


@dataclass(frozen=True)
class _Returns(Loss):
    """A loss on what the steps after each step but the last gain.

    Attributes:
        discount: of later steps' gains.
    """

    discount: float = 0.9

    def returns(self, prediction: Prediction, context: LossContext) -> Array:
        """Discounted gains of the steps after each, float32 [B, K - 1]; no gradient."""
        gains = margin_gains(prediction.outputs["step_logits"], context.labels[:, 0])
        return jax.lax.stop_gradient(discounted_returns(gains, self.discount))

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        super().validate(path)
        require(0 <= self.discount <= 1, f"{path}.discount", "must lie in [0, 1]")


@dataclass(frozen=True)
class Utility(_Returns):
    """Half the squared error of the utility, which is to foresee the return."""

    name = "utility"
    needs = ("step_logits", "utility")

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        error = prediction.outputs["utility"] - self.returns(prediction, context)
        return 0.5 * jnp.mean(jnp.square(error))


@dataclass(frozen=True)
class Selection(_Returns):
    """REINFORCE on the locations that were drawn, with the utility as the baseline."""

    name = "selection"
    needs = ("step_logits", "utility", "step_log_probability")

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        given = prediction.outputs
        advantage = self.returns(prediction, context) - given["utility"]
        return policy_gradient_loss(given["step_log_probability"], advantage)
