"""The pure steps of training and evaluation; each is compiled once per stage."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ar_net_jax.methods import Method, Moment, StageConfig
from ar_net_jax.modules.frame_runner import EVALUATION
from ar_net_jax.training.micro_batches import accumulate, split_batch
from ar_net_jax.training.stage_loss import StageLoss
from ar_net_jax.training.state import TrainState, state_shardings

Array = jax.Array
Tree = Any
Batch = Mapping[str, Array]
Metrics = dict[str, Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    loss: StageLoss,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None = None,
    *,
    steps_per_epoch: float,
    micro_batches: int = 1,
    shard_state: bool = False,
) -> TrainStep:
    """The jitted step of a stage; it donates the state.

    Args:
        loss: what is minimised.
        optimizer: of the stage.
        mesh: the devices that state and batch lie on, as `state_shardings` and `put_batch` lay
            them; None for one device.
        steps_per_epoch: steps per pass over the training videos.
        micro_batches: equal parts of the batch that go through one after the other.
        shard_state: keep each part of the optimizer's state on one device only.

    Returns:
        A function (state, batch) -> (state, metrics). Metrics are float32 scalars: `loss` and its
        parts, and for a method that decides `usage/<choice>`.
    """

    def gradient_of(
        params: Tree, batch_stats: Tree, batch: Batch, moment: Moment, batch_usage: Array | None
    ) -> tuple[Tree, tuple[Metrics, Tree]]:
        return jax.grad(loss, has_aux=True)(params, batch_stats, batch, moment, batch_usage)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        # Epochs end on the nearest whole step; the half also keeps rounding off the boundary.
        moment = Moment(state.step, jnp.floor((state.step + 0.5) / steps_per_epoch))
        if micro_batches == 1:
            grads, aux = gradient_of(state.params, state.batch_stats, batch, moment, None)
        else:
            split = split_batch(batch, micro_batches, mesh)
            usage = loss.usage(state.variables, split, moment)
            grads, aux = accumulate(
                lambda params, stats, part: gradient_of(params, stats, part, moment, usage),
                state.params,
                state.batch_stats,
                split,
            )
        metrics, batch_stats = aux
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = TrainState(state.step + 1, params, batch_stats, opt_state)
        if mesh is not None:
            shardings = state_shardings(state, mesh, shard_optimizer=shard_state)
            state = jax.lax.with_sharding_constraint(state, shardings)
        return state, metrics

    return jax.jit(step, donate_argnums=0)


def make_separate_predict_step(
    method: Method[Any, Any], stage: StageConfig
) -> Callable[[Any, Batch], dict[str, Array]]:
    """The jitted evaluation of each network by itself.

    Returns:
        A function (variables, batch) -> logits float32 [B, C] by name of the module.
    """

    def step(variables: Any, batch: Batch) -> dict[str, Array]:
        return method.classify_separately(stage, variables, batch["frames"], EVALUATION)[0]

    return jax.jit(step)
