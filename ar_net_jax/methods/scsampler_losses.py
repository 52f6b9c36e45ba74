"""How SCSampler's sampler may learn which frames the main network does well on."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ar_net_jax.losses import Loss, LossContext
from ar_net_jax.modules.prediction import Prediction

Array = jax.Array


@dataclass(frozen=True)
class Ranking(Loss):
    """The sampler is to put frames in the order in which the main network is right about them.

    Of every pair of a video's frames, the one to which the main network gives the video's first
    label the higher probability is to have the larger logit of that label in the sampler; the loss
    is by how much it is smaller, a hinge without a margin, averaged over the pairs. The main
    network only tells the order: no gradient reaches it. Whether its score is a probability or a
    logit is not published; the probability is this package's choice.
    """

    name = "ranking"
    needs = ("sampler_logits", "main_logits")

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        given, label = prediction.outputs, context.labels[:, :1, None]

        def of_label(x: Array) -> Array:
            return jnp.take_along_axis(x, label, axis=-1)[..., 0]

        score = of_label(jax.nn.softmax(jax.lax.stop_gradient(given["main_logits"])))
        return pairwise_ranking(of_label(given["sampler_logits"]), score)


def pairwise_ranking(values: Array, scores: Array) -> Array:
    """The mean over all pairs of a video's frames of how far `values` are from the right order.

    Args:
        values: float32 [B, T], what is to be ordered.
        scores: float32 [B, T], that tell the order; pairs of equal ones add nothing.

    Returns:
        float32 scalar, 0 for videos of one frame.
    """
    length = values.shape[1]
    first, second = np.triu_indices(length, k=1)
    order = jnp.sign(scores[:, first] - scores[:, second])
    wrong = jnp.maximum(0.0, -order * (values[:, first] - values[:, second]))
    return jnp.sum(wrong) / max(1, wrong.size)
