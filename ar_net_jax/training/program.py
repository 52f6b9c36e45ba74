"""The compiled program of a stage, put together from the config alone: no data, no weights."""

import dataclasses
from typing import Any

import optax
from jax.sharding import Mesh

from ar_net_jax.experiment import Config
from ar_net_jax.methods import StageConfig
from ar_net_jax.training import parts, steps
from ar_net_jax.training.optimizer import make_optimizer
from ar_net_jax.training.schedules import learning_rate
from ar_net_jax.training.stage_loss import StageLoss

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
    stage: StageConfig | None = None,
    steps_per_epoch: float = 1000.0,
) -> StageProgram:
    """Puts a stage's program together; nothing is compiled yet.

    Args:
        config: the run.
        index: the stage's place in `config.stage_order`.
        params: the parameters, or their shapes.
        mesh: the devices.
        stage: that stage, completed by what the one before handed on; by default as it would be
            without one before.
        steps_per_epoch: steps per pass over the training videos. The default is for programs that
            no data will run through, where it matters to nothing but numbers.
    """
    stage = stage or config.stages[config.stage_order[index]].following({})
    method = config.build_method()
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
        config.optimizer,
        schedule,
        params,
        part_of=lambda path: method.part_of(stage, path),
        heads=method.head_names(),
        rate_of=lambda path: method.rate_of(stage, path),
    )
    step = steps.make_train_step(
        StageLoss(method, stage, parts.stage_seed(config, index), mesh),
        optimizer,
        mesh,
        steps_per_epoch=steps_per_epoch,
        micro_batches=config.optimizer.micro_batches,
        shard_state=config.optimizer.shard_state,
    )
    return StageProgram(step, optimizer, schedule)
