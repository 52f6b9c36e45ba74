"""The pure steps of training and evaluation; each is compiled once per stage."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ar_net_jax.config import Config, StageConfig
from ar_net_jax.losses import classification_loss, total_loss
from ar_net_jax.models.multi_backbone import Mode
from ar_net_jax.models.random import example_keys
from ar_net_jax.schedules import temperature
from ar_net_jax.training.state import TrainState

Array = jax.Array
Batch = dict[str, Array]
Metrics = dict[str, Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    config: Config,
    stage: StageConfig,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    action_gflops: Array,
    *,
    seed: int,
    tau_start: float,
    steps_per_epoch: float,
) -> TrainStep:
    """The jitted step of a stage; it donates the state.

    Args:
        config: the run.
        stage: the stage.
        model: the module of the run's approach.
        optimizer: of the stage.
        action_gflops: float32 [A], cost of each action for eq. 10.
        seed: of dropout and decisions in this stage, derived per example.
        tau_start: temperature in the stage's first epoch.
        steps_per_epoch: steps per pass over the training videos.

    Returns:
        A function (state, batch) -> (state, metrics). Metrics are float32 scalars: `loss` and its
        parts, and for a joint stage `tau` and `usage/<action>`.
    """

    def loss_of(params: Any, state: TrainState, batch: Batch) -> tuple[Array, tuple]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        keys = example_keys(seed, batch["epoch"], batch["example_id"])
        if stage.objective == "separate":
            return _separate_loss(config, stage, model, variables, batch, keys)
        # Epochs end on the nearest whole step; the half also keeps rounding off the boundary.
        epoch = jnp.floor((state.step + 0.5) / steps_per_epoch)
        tau = temperature(epoch, tau_start, stage.tau_decay)
        return _joint_loss(config, stage, model, variables, batch, keys, tau, action_gflops)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        gradient = jax.grad(loss_of, has_aux=True)
        grads, (metrics, batch_stats) = gradient(state.params, state, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state), metrics

    return jax.jit(step, donate_argnums=0)


def _separate_loss(
    config: Config,
    stage: StageConfig,
    model: nn.Module,
    variables: Any,
    batch: Batch,
    keys: Array,
) -> tuple[Array, tuple]:
    """The sum of each backbone's own loss; their parameters are disjoint."""
    with_policy = stage.train_policy_features
    mode = Mode(train=True, train_policy=with_policy, keys=keys)
    logits, updated = model.apply(
        variables,
        batch["frames"],
        mode,
        with_policy=with_policy,
        method="classify_separately",
        mutable=["batch_stats"],
    )
    losses = {
        f"loss/{name}": classification_loss(x, batch["labels"], config.loss.classification)
        for name, x in logits.items()
    }
    loss = sum(losses.values())
    return loss, ({"loss": loss, **losses}, updated["batch_stats"])


def _joint_loss(
    config: Config,
    stage: StageConfig,
    model: nn.Module,
    variables: Any,
    batch: Batch,
    keys: Array,
    tau: Array,
    action_gflops: Array,
) -> tuple[Array, tuple]:
    """Equation 12 for the approach as a whole."""
    mode = Mode(
        train=True,
        train_policy=stage.freeze_policy != "all",
        keys=keys,
        tau=tau if stage.decisions == "sample" else None,
    )
    prediction, updated = model.apply(variables, batch["frames"], mode, mutable=["batch_stats"])
    if config.model.approach != "ar_net":
        # Nothing is decided by learning, so equations 10 and 11 have nothing to act on.
        loss = classification_loss(prediction.logits, batch["labels"], config.loss.classification)
        return loss, ({"loss": loss}, updated["batch_stats"])
    loss, parts = total_loss(
        config.loss, prediction.logits, batch["labels"], prediction.one_hot, action_gflops
    )
    usage = jnp.mean(prediction.one_hot, axis=(0, 1))
    named = zip(config.model.space.names, usage, strict=True)
    metrics = {"loss": loss, "tau": tau, **{f"usage/{name}": share for name, share in named}}
    metrics |= {f"loss/{name}": part for name, part in parts.items()}
    return loss, (metrics, updated["batch_stats"])


def make_predict_step(model: nn.Module, seed: int) -> Callable[[Any, Batch], dict[str, Array]]:
    """The jitted evaluation of a batch under the model's own decisions (argmax).

    Args:
        model: the module of an approach.
        seed: of the random policy's draws, derived per example.

    Returns:
        A function (variables, batch) -> `logits` float32 [B, C] and `actions` int32 [B, T].
    """

    def step(variables: Any, batch: Batch) -> dict[str, Array]:
        keys = example_keys(seed, jnp.zeros_like(batch["example_id"]), batch["example_id"])
        prediction = model.apply(variables, batch["frames"], Mode(keys=keys))
        return {"logits": prediction.logits, "actions": prediction.actions}

    return jax.jit(step)


def make_separate_predict_step(
    model: nn.Module, with_policy: bool
) -> Callable[[Any, Batch], dict[str, Array]]:
    """The jitted evaluation of each backbone by itself.

    Returns:
        A function (variables, batch) -> logits float32 [B, C] by name of the backbone.
    """

    def step(variables: Any, batch: Batch) -> dict[str, Array]:
        return model.apply(
            variables, batch["frames"], with_policy=with_policy, method="classify_separately"
        )

    return jax.jit(step)
