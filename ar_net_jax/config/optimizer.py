"""The part of the configuration that says how is minimised what the stages name."""

from dataclasses import dataclass

from ar_net_jax.config.schema import require


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with the released parameter groups.

    Attributes:
        momentum: heavy-ball momentum.
        weight_decay: added to the gradient of the groups that decay.
        clip_norm: bound on the gradient's global norm (per backbone in separate training).
        head_multiplier: learning-rate factor of every classifier and of the decision head.
        wide_head_multiplier: the same of classifiers that read an embedding of the head `max_mlp`.
            Its thousands of inputs move a prediction together, and the more, the fewer classes.
        bias_multiplier: further factor of biases other than BatchNorm's; they do not decay.
        micro_batches: equal parts of a batch that go through the model one after the other, their
            gradients summed, to need less memory. BatchNorm then uses the statistics of each part
            and moves its running ones once for each.
        rates_for_batch: the batch that the stages' learning rates are meant for: they are
            multiplied by the square root of `data.batch_size` over it. 0 takes them as they are.
        shard_state: keep each part of the momentum on one device only, instead of all of it on
            every device.
    """

    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float = 20.0
    head_multiplier: float = 5.0
    wide_head_multiplier: float = 5.0
    bias_multiplier: float = 2.0
    micro_batches: int = 1
    rates_for_batch: int = 0
    shard_state: bool = False

    def validate(self, path: str) -> None:
        """Raises UserError, naming the field, if a value is impossible."""
        require(0 <= self.momentum < 1, f"{path}.momentum", "must lie in [0, 1)")
        require(self.weight_decay >= 0, f"{path}.weight_decay", "must not be negative")
        require(self.clip_norm > 0, f"{path}.clip_norm", "must be positive")
        require(self.rates_for_batch >= 0, f"{path}.rates_for_batch", "must not be negative")
        require(self.micro_batches >= 1, f"{path}.micro_batches", "must be at least 1")
