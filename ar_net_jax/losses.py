"""What training minimises: one class a loss, named and weighted in the config of a stage.

    config.stages.joint.losses = {"accuracy": {"weight": 0.9}, "efficiency": {"weight": 0.1}}

A stage's loss is the weighted sum of its terms. Defining a subclass of `Loss` makes its `name`
known to configs; a user's own stands in the user's own file.
"""

import abc
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ar_net_jax.config.schema import require
from ar_net_jax.errors import UserError
from ar_net_jax.modules.prediction import Prediction

Array = jax.Array
Target = Literal["cross_entropy", "binary_cross_entropy"]


@flax.struct.dataclass
class LossContext:
    """What losses read besides the prediction.

    Attributes:
        labels: int32 [B, K], the main one first, padded with -1.
        choice_gflops: float32 [A], what each choice costs, deciding left out.
        batch_usage: float32 [A], given where the prediction is of one of several equal parts of a
            batch: the usage of choices in the whole.
        step: int32 scalar, steps of the stage before this one.
    """

    labels: Array
    choice_gflops: Array
    batch_usage: Array | None = None
    step: Array | int = 0


@dataclass(frozen=True)
class Loss(abc.ABC):
    """One term of a stage's loss.

    Attributes:
        weight: in the sum.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """What a method must give for it: `decisions`, `network_logits`, or names of `outputs`."""
    needs_batch_usage: ClassVar[bool] = False
    """Whether it is no mean over videos, and has to know the usage in the whole batch."""

    weight: float = 1.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not inspect.isabstract(cls):
            _KNOWN[cls.name] = cls

    @abc.abstractmethod
    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """The unweighted loss of a batch: a float32 scalar."""

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        require(self.weight >= 0, f"{path}.weight", "must not be negative")

    @classmethod
    def of_name(cls, name: str, path: str) -> type["Loss"]:
        """The class of the loss of that name; `path` is where the config names it.

        Raises:
            UserError: no loss has that name; lists those that there are.
        """
        if name not in _KNOWN:
            raise UserError(f"config.{path}: no loss '{name}'; known: {', '.join(_KNOWN)}")
        return _KNOWN[name]


_KNOWN: dict[str, type[Loss]] = {}


def in_order(losses: Mapping[str, Loss]) -> dict[str, Loss]:
    """Losses in the order in which their classes were defined, whatever a config's order is.

    So a sum of the same terms is the same to the last bit.
    """
    order = list(_KNOWN)
    return dict(sorted(losses.items(), key=lambda item: order.index(item[0])))


def classification_loss(logits: Array, labels: Array, target: Target = "cross_entropy") -> Array:
    """Equation 9, averaged over the videos.

    Args:
        logits: float32 [B, C].
        labels: int32 [B, K], the main one first, padded with -1.
        target: cross-entropy on the first label as released, or binary cross-entropy on all labels,
            averaged over classes.

    Returns:
        float32 scalar.

    >>> round(float(classification_loss(jnp.zeros((1, 4)), jnp.array([[2, -1]]))), 4)
    1.3863
    """
    if target == "cross_entropy":
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[:, 0])
        return jnp.mean(losses)
    # one_hot of -1 is a row of zeros, so padding drops out.
    targets = jnp.max(jax.nn.one_hot(labels, logits.shape[-1]), axis=1)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, targets))


@dataclass(frozen=True)
class Accuracy(Loss):
    """Equation 9: classification of the video.

    Attributes:
        target: `cross_entropy` on the first label, or `binary_cross_entropy` on all.
    """

    name = "accuracy"

    target: Target = "cross_entropy"

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        return classification_loss(prediction.logits, context.labels, self.target)


@dataclass(frozen=True)
class Efficiency(Loss):
    """Equation 10: mean GFLOPs per frame of the choices made, the cost of deciding left out."""

    name = "efficiency"
    needs = ("decisions",)

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        one_hot = _decided(prediction)
        return jnp.mean(jnp.sum(one_hot * context.choice_gflops, axis=-1))


@dataclass(frozen=True)
class Uniform(Loss):
    """Equation 11: how far the usage of choices in the batch is from uniform; 0 where it is.

    Given the usage in the whole batch, value and gradient are those of the whole batch's loss, as
    far as they depend on this part, times the number of parts; so the mean over the parts is
    exact, though the loss is not linear in the usage.

    Attributes:
        norm: `squared` as in the paper, or `euclidean`, the norm itself, as released.
    """

    name = "uniform"
    needs = ("decisions",)
    needs_batch_usage = True

    norm: Literal["squared", "euclidean"] = "squared"

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        usage = batch_usage(prediction, context)
        squared = jnp.sum(jnp.square(usage - jnp.mean(usage)))
        if self.norm == "squared":
            return squared
        # The gradient of the norm is undefined at exactly uniform usage; there it counts as zero.
        return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)


@dataclass(frozen=True)
class Separate(Loss):
    """The sum of the networks' own losses, each classifying by itself from all frames.

    In a `separate` stage it is all there is. In a joint one it lets a network go on learning that
    the policy gives few frames to; the paper has no such term.

    Attributes:
        target: as in `Accuracy`.
    """

    name = "separate"
    needs = ("network_logits",)

    target: Target = "cross_entropy"

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        return sum(self.by_network(prediction, context).values(), start=jnp.zeros(()))

    def by_network(self, prediction: Prediction, context: LossContext) -> dict[str, Array]:
        """The loss of each network by itself, by name: float32 scalars."""
        return {
            name: classification_loss(logits, context.labels, self.target)
            for name, logits in prediction.network_logits.items()
        }


@dataclass(frozen=True)
class Reinforce(Loss):
    """The policy gradient of REINFORCE (Williams 1992) with a baseline, as a loss.

    The gradient of -log p(decisions) times (reward - baseline), and no gradient through either of
    the two. A method gives all three in its prediction's `outputs`, float32 [B]: `log_probability`
    of the decisions that were drawn, `reward` and `baseline`.
    """

    name = "reinforce"
    needs = ("log_probability", "reward", "baseline")

    def __call__(self, prediction: Prediction, context: LossContext) -> Array:
        """See `Loss`."""
        given = prediction.outputs
        advantage = jax.lax.stop_gradient(given["reward"] - given["baseline"])
        return -jnp.mean(advantage * given["log_probability"])


def batch_usage(prediction: Prediction, context: LossContext) -> Array:
    """The usage of choices in the whole batch, with the gradient of this part: float32 [A].

    Raises:
        ValueError: nothing was decided.
    """
    usage = jnp.mean(_decided(prediction), axis=(0, 1))
    if context.batch_usage is not None:
        usage += jax.lax.stop_gradient(context.batch_usage - usage)
    return usage


def _decided(prediction: Prediction) -> Array:
    """The choices made: float32 [B, T, A]."""
    if prediction.decisions is None:
        raise ValueError("this loss acts on decisions, and the prediction holds none")
    return prediction.decisions.one_hot
