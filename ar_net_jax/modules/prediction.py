"""What one forward pass of a method's module gives, whatever the method."""

from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp

Array = jax.Array


@flax.struct.dataclass
class Decisions:
    """What was decided about the frames of B videos.

    Attributes:
        one_hot: float32 [B, T, A], the choice that holds on every frame, a skip repeated on the
            frames that it covers; zero on padding. Carries the straight-through gradient when
            sampled.
        logits: float32 [B, T, A], of the decision head; None where nothing is learnt.
    """

    one_hot: Array
    logits: Array | None = None

    @property
    def actions(self) -> Array:
        """int32 [B, T], the index of the choice on every frame."""
        return jnp.argmax(self.one_hot, axis=-1).astype(jnp.int32)


@flax.struct.dataclass
class Prediction:
    """What a module makes of B videos.

    Attributes:
        logits: float32 [B, C].
        calls: by network, how many times each video needed it: float32 [B].
        executed: by network, how many rows it really computed: int32 scalar. Filling of last
            chunks, frames that a skip covers and padding are included.
        decisions: about every frame; None where every frame is treated alike.
        network_logits: by network, its own prediction float32 [B, C] as an average over all
            frames, for the losses that train it by itself; empty in the sparse form.
        outputs: whatever else the method's own losses read, such as `log_probability`, `reward`
            and `baseline` of a reinforcement loss, float32 [B].
    """

    logits: Array
    calls: Mapping[str, Array]
    executed: Mapping[str, Array]
    decisions: Decisions | None = None
    network_logits: Mapping[str, Array] = flax.struct.field(default_factory=dict)
    outputs: Mapping[str, Array] = flax.struct.field(default_factory=dict)
