"""What a model's logits say of its classes, by the loss that it was trained with."""

import numpy as np
import scipy.special
from jaxtyping import Float, Float64

from ar_net_jax.experiment import Config
from ar_net_jax.losses import Accuracy, Separate


def judges_classes_apart(config: Config) -> bool:
    """Whether a model says of each class by itself how likely it is, so that several may hold.

    That is what binary cross-entropy teaches. The last stage counts that has a loss with a target;
    a model without stages, such as a converted one, chooses one class.

    Args:
        config: of the model.
    """
    losses = [
        loss
        for name in config.stage_order
        for loss in config.stages[name].losses.values()
        if isinstance(loss, Accuracy | Separate)
    ]
    return bool(losses) and losses[-1].target == "binary_cross_entropy"


def class_probabilities(
    config: Config, logits: Float[np.ndarray, "*b c"]
) -> Float64[np.ndarray, "*b c"]:
    """Probabilities of classes: sigmoids where a model judges classes apart, else the softmax.

    Args:
        config: of the model.
        logits: float [..., C].

    Returns:
        float64 [..., C], in float64 to keep the scores of many videos apart.

    >>> class_probabilities(Config(), np.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    logits = np.asarray(logits, np.float64)
    if judges_classes_apart(config):
        return scipy.special.expit(logits)
    return scipy.special.softmax(logits, axis=-1)
