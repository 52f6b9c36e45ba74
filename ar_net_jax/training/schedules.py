"""Learning rate over the steps of a stage."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

KINDS = ("step", "cosine", "constant")


def learning_rate(
    kind: str,
    base: float,
    steps_per_epoch: float,
    epochs: float,
    *,
    decay_epochs: Sequence[float] = (),
    decay_factor: float = 0.1,
    warmup_epochs: float = 0.0,
) -> optax.Schedule:
    """Learning rate of one stage as a function of the step within it.

    Epochs are turned into steps by rounding, so a decay falls on a whole step even if an epoch
    is not a whole number of steps.

    Args:
        kind: "step" (the paper's: times `decay_factor` from each of `decay_epochs` on), "cosine"
            (half a cosine from `base` after the warm-up to 0 at `epochs`) or "constant".
        base: learning rate at its highest.
        steps_per_epoch: optimizer steps per pass over the training split.
        epochs: length of the stage.
        decay_epochs: for "step", counted from the start of the stage.
        decay_factor: for "step".
        warmup_epochs: linear rise to `base` at the start; the first step already moves.

    Returns:
        A schedule: step (int or int array) -> float32 scalar.

    Raises:
        ValueError: for an unknown kind, or a stage without steps.

    >>> schedule = learning_rate("step", 0.02, 10, 10, decay_epochs=(2, 4))
    >>> [round(float(schedule(step)), 6) for step in (0, 19, 20, 40)]
    [0.02, 0.02, 0.002, 0.0002]
    """
    if kind not in KINDS:
        raise ValueError(f"unknown learning-rate schedule {kind!r}; choose one of {KINDS}")
    total_steps = round(epochs * steps_per_epoch)
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if total_steps < 1:
        raise ValueError(
            f"a stage of {epochs} epochs of {steps_per_epoch} steps has no step; train longer"
        )
    if kind == "step":
        after_warmup = _step_decay(base, steps_per_epoch, decay_epochs, decay_factor)
    elif kind == "cosine":
        falling = optax.cosine_decay_schedule(base, max(total_steps - warmup_steps, 1))

        def after_warmup(step: jax.typing.ArrayLike) -> jax.Array:
            return falling(jnp.maximum(step - warmup_steps, 0))

    else:
        after_warmup = optax.constant_schedule(base)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        rise = jnp.minimum(1.0, (step + 1) / max(warmup_steps, 1))
        return jnp.asarray(rise * after_warmup(step), jnp.float32)

    return schedule


def _step_decay(
    base: float, steps_per_epoch: float, decay_epochs: Sequence[float], decay_factor: float
) -> optax.Schedule:
    """`base` times `decay_factor` for every decay epoch that has begun."""
    scales: dict[int, float] = {}
    for epoch in decay_epochs:
        step = round(epoch * steps_per_epoch)
        # In a tiny data set two decays can round to the same step; both count.
        scales[step] = scales.get(step, 1.0) * decay_factor
    return optax.piecewise_constant_schedule(base, scales)
