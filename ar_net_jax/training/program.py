"""The compiled program of a stage, put together from the config alone: no data, no weights."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ar_net_jax.config.config import Config
from ar_net_jax.costs.model_costs import model_cost_table
from ar_net_jax.methods.registry import build_model
from ar_net_jax.training import parts as stages
from ar_net_jax.training import steps
from ar_net_jax.training.optimizer import make_optimizer
from ar_net_jax.training.schedules import learning_rate

Tree = Any


@dataclasses.dataclass(frozen=True)
class StageProgram:
    """What runs in each step of a stage.

    Attributes:
        step: (state, batch) -> (state, metrics), jitted.
        optimizer: whose state the step carries.
        schedule: learning rate by step.
    """

    step: steps.TrainStep
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule


def build_program(
    config: Config,
    index: int,
    params: Tree,
    mesh: Mesh,
    *,
    steps_per_epoch: float = 1000.0,
    tau_start: float | None = None,
) -> StageProgram:
    """Puts a stage's program together; nothing is compiled yet.

    Args:
        config: the run.
        index: the stage's place in `config.stage_order`.
        params: the parameters, or their shapes.
        mesh: the devices.
        steps_per_epoch: steps per pass over the training videos. The default is for programs that
            no data will run through, where it matters to nothing but numbers.
        tau_start: temperature in the first epoch; by default what the stage says, or 1 where it
            says to go on from the stage before.
    """
    stage = config.stages[config.stage_order[index]]
    if tau_start is None:
        tau_start = stage.tau_start or 1.0
    schedule = learning_rate(
        stage.schedule,
        stage.learning_rate,
        steps_per_epoch,
        stage.epochs,
        decay_epochs=stage.decay_epochs,
        decay_factor=stage.decay_factor,
        warmup_epochs=stage.warmup_epochs,
    )
    optimizer = make_optimizer(
        config.optimizer, schedule, params, lambda path: stages.part_of(stage, path)
    )
    step = steps.make_train_step(
        config,
        stage,
        build_model(config.model),
        optimizer,
        jnp.asarray(model_cost_table(config.model).actions, jnp.float32),
        seed=stages.stage_seed(config, index),
        tau_start=tau_start,
        steps_per_epoch=steps_per_epoch,
        mesh=mesh,
    )
    return StageProgram(step, optimizer, schedule)
