"""The pure steps of training and evaluation; each is compiled once per stage."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ar_net_jax.config.config import Config, StageConfig
from ar_net_jax.training.micro_batches import accumulate, split_batch
from ar_net_jax.training.schedules import temperature
from ar_net_jax.training.stage_loss import StageLoss
from ar_net_jax.training.state import TrainState, state_shardings

Array = jax.Array
Tree = Any
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
    mesh: Mesh | None = None,
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
        mesh: the devices that state and batch lie on, as `state_shardings` and `put_batch` lay
            them; None for one device.

    Returns:
        A function (state, batch) -> (state, metrics). Metrics are float32 scalars: `loss` and its
        parts, and for a joint stage `tau` and `usage/<action>`.
    """
    loss = StageLoss(config, stage, model, action_gflops, seed, mesh)
    parts = config.optimizer.micro_batches

    def gradient_of(
        params: Tree, batch_stats: Tree, batch: Batch, tau: Array, batch_usage: Array | None
    ) -> tuple[Tree, tuple[Metrics, Tree]]:
        return jax.grad(loss, has_aux=True)(params, batch_stats, batch, tau, batch_usage)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        # Epochs end on the nearest whole step; the half also keeps rounding off the boundary.
        epoch = jnp.floor((state.step + 0.5) / steps_per_epoch)
        tau = temperature(epoch, tau_start, stage.tau_decay)
        if parts == 1:
            grads, aux = gradient_of(state.params, state.batch_stats, batch, tau, None)
        else:
            split = split_batch(batch, parts, mesh)
            usage = loss.usage(state.variables, split, tau)
            grads, aux = accumulate(
                lambda *args: gradient_of(*args, tau, usage), state.params, state.batch_stats, split
            )
        metrics, batch_stats = aux
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = TrainState(state.step + 1, params, batch_stats, opt_state)
        if mesh is not None:
            shardings = state_shardings(state, mesh, shard_optimizer=config.optimizer.shard_state)
            state = jax.lax.with_sharding_constraint(state, shardings)
        return state, metrics

    return jax.jit(step, donate_argnums=0)


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
