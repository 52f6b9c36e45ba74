"""One stage of training: where it starts, how its loop is put together, what it hands on."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import Any, Self

import jax
from etils import epath
from jax.sharding import Mesh

from ar_net_jax.checkpoints import Checkpoints
from ar_net_jax.data.pipeline import train_batches
from ar_net_jax.data.source import VideoSource
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.methods import StageConfig
from ar_net_jax.runtime import mesh as devices
from ar_net_jax.runtime.preemption import PreemptionHandler
from ar_net_jax.training import parts
from ar_net_jax.training.log import Reporting, StageLog
from ar_net_jax.training.micro_batches import check_batch
from ar_net_jax.training.program import StageProgram, build_program
from ar_net_jax.training.progress import folded
from ar_net_jax.training.stage_loop import DataOrder, Plan, Stage, StageLoop
from ar_net_jax.training.state import Best, TrainState, state_shardings
from ar_net_jax.training.validation import Validation
from ar_net_jax.weights.pretrained import pretrained_variables

Tree = Any

_RECORD_FIELDS = ("scores", "epochs", "seconds")


@dataclasses.dataclass(frozen=True)
class Run:
    """What all stages of a run share.

    Attributes:
        config: of the run.
        workdir: where it lives.
        train_split: the training videos.
        validation_split: the videos on which epochs are compared.
        preemption: tells whether to stop.
        reporting: what to show and record.
        progress: whether to show progress bars.
    """

    config: Config
    workdir: epath.Path
    train_split: VideoSource
    validation_split: VideoSource
    preemption: PreemptionHandler
    reporting: Reporting
    progress: bool


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """What is written down of a finished stage, beside its variables.

    Attributes:
        scores: best validation mAP in percent by part.
        epochs: the epoch it was reached in, by part.
        handed_on: values that the next stage may go on from, by name.
        seconds: that this call of the stage took.
    """

    scores: dict[str, float]
    epochs: dict[str, int]
    handed_on: dict[str, float]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: the values handed on stand beside the others."""
        return {
            "scores": self.scores,
            "epochs": self.epochs,
            **self.handed_on,
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` gave."""
        handed_on = {name: v for name, v in values.items() if name not in _RECORD_FIELDS}
        return cls(values["scores"], values["epochs"], handed_on, values["seconds"])


def run_stage(
    run: Run, index: int, earlier: Tree | None, handed_on: Mapping[str, float]
) -> tuple[Tree, StageRecord]:
    """Trains one stage, or goes on with it from its newest checkpoint.

    Args:
        run: what all stages share.
        index: the stage's place in `config.stage_order`.
        earlier: variables to start from, as far as they match, or None.
        handed_on: from the record of the stage before; empty for the first.

    Returns:
        The selected variables as host arrays, and the record of the stage.

    Raises:
        UserError: as `train`.
        Preempted: as `train`.
    """
    started = time.monotonic()
    config = run.config
    stage = config.stages[config.stage_order[index]].following(handed_on)
    with contextlib.ExitStack() as stack:
        loop = _build_loop(run, index, stage, earlier, stack)
        loop.run()
    best = loop.best
    if stage.select == "best":
        selected, epoch = best.variables, max(int(e) for e in best.epoch.values())
    else:
        selected, epoch = loop.state.variables, stage.epochs - 1
    record = StageRecord(
        scores={part: float(score) for part, score in best.score.items()},
        epochs={part: int(epoch) for part, epoch in best.epoch.items()},
        handed_on=stage.hand_on(epoch),
        seconds=time.monotonic() - started,
    )
    return jax.device_get(selected), record


def _build_loop(
    run: Run, index: int, stage: StageConfig, earlier: Tree | None, stack: contextlib.ExitStack
) -> StageLoop:
    """Puts a stage's loop together; what has to be closed after it goes on the stack.

    The loop alone may refer to the state and the best variables: it replaces them as it goes, and
    another reference would keep a second copy of the model on the devices.
    """
    config, name = run.config, run.config.stage_order[index]
    mesh = devices.make_mesh()
    _check_batch_size(run, mesh)
    data = DataOrder(config.data.batch_size, len(run.train_split), parts.stage_seed(config, index))
    steps_per_epoch = data.num_examples / data.batch_size
    plan = Plan.create(config, stage.epochs, steps_per_epoch)
    validation = Validation(config, stage, run.validation_split, mesh)
    checkpoints = stack.enter_context(Checkpoints(run.workdir / "checkpoints" / name))
    resuming = checkpoints.latest_step() is not None
    if index == 0 and earlier is not None and not resuming:
        shapes = config.build_method().variable_shapes()
        if told := parts.tell_taken(shapes, earlier, config.init_from):
            run.reporting.say(folded(told))
    run.reporting.say(f"{name}: compiling what draws its first variables")
    variables = starting_variables(config, index, earlier, mesh, resuming=resuming)
    program = build_program(
        config, index, variables["params"], mesh, stage=stage, steps_per_epoch=steps_per_epoch
    )
    state = _initial_state(config, variables, program, mesh)
    selected = parts.selected_parts(config.build_method(), stage, variables["params"])
    best = Best.create(selected, variables)
    state, best, evaluated = _restore(run, checkpoints, data, state, devices.replicate(best, mesh))
    done = int(state.step)
    log = StageLog(
        config,
        name,
        run.workdir / "history" / f"{index}_{name}",
        run.reporting,
        progress=run.progress,
        done=done,
        last=plan.last_step,
        later=config.stage_order[index + 1 :],
    )
    return StageLoop(
        Stage(name, plan, data, program, validation, mesh),
        checkpoints=checkpoints,
        log=stack.enter_context(log),
        batches=stack.enter_context(contextlib.closing(_batches(run, data, mesh, done))),
        preemption=run.preemption,
        state=state,
        best=best,
        evaluated=evaluated,
    )


def _check_batch_size(run: Run, mesh: Mesh) -> None:
    """Raises UserError if a batch cannot be split over the devices, or cannot be filled."""
    batch_size, num_videos = run.config.data.batch_size, len(run.train_split)
    check_batch(run.config, mesh)
    if num_videos < batch_size:
        raise UserError(
            f"config.data.batch_size: {batch_size} is more than the {num_videos} training videos"
        )


def starting_variables(
    config: Config, index: int, earlier: Tree | None, mesh: Mesh, *, resuming: bool
) -> Tree:
    """A stage's first variables: earlier ones, then imported ones, and the rest drawn.

    Args:
        config: of the run.
        index: the stage's place in `config.stage_order`.
        earlier: variables to start from, as far as they match in name and shape, or None.
        mesh: where they are replicated.
        resuming: a checkpoint will replace them all, so no file is read for them.

    Raises:
        UserError: nothing of `earlier` matches, or a file to import is unfit.
    """
    stage, method = config.stages[config.stage_order[index]], config.build_method()
    key = jax.random.fold_in(jax.random.key(config.seed), index)

    def init(key: jax.Array) -> Tree:
        return method.initial_variables(key, stage)

    shapes = jax.eval_shape(init, key)
    variables, taken = parts.restore_partial(shapes, earlier)
    if earlier is not None and taken == 0:
        raise UserError(
            f"config.init_from: no variable of {config.init_from or 'the stage before'} "
            "matches this model in name and shape"
        )
    if taken < len(jax.tree.leaves(shapes)):
        # The files may have been removed once the first checkpoint was written.
        imported = None if resuming else pretrained_variables(config)
        variables, _ = parts.restore_partial(parts.restore_partial(shapes, imported)[0], earlier)
        variables = parts.draw_missing(variables, init, key)
    return devices.replicate(variables, mesh)


def _initial_state(
    config: Config, variables: Tree, program: StageProgram, mesh: Mesh
) -> TrainState:
    """The state before the first step, placed just as the step returns it.

    That goes for the counters too: a leaf placed otherwise would have the step compiled twice.
    """
    state = TrainState.create(variables, program.optimizer)
    split = config.optimizer.shard_state
    placed: TrainState = devices.shard(state, state_shardings(state, mesh, shard_optimizer=split))
    return placed


def _restore(
    run: Run, checkpoints: Checkpoints, data: DataOrder, state: TrainState, best: Best
) -> tuple[TrainState, Best, bool]:
    """State, best and `evaluated` of the newest checkpoint; without one those of the start."""
    restored = checkpoints.restore_latest({"state": state, "best": best})
    if restored is None:
        return state, best, True
    tree, meta = restored
    state = tree["state"]
    if meta["data"] != data.after(int(state.step)):
        raise UserError(
            f"the training videos are not those that {run.workdir} was trained on "
            f"({meta['data']['num_examples']} then, {data.num_examples} now); give it the "
            "same data, or choose another --workdir"
        )
    return state, tree["best"], meta["evaluated"]


def _batches(run: Run, data: DataOrder, mesh: Mesh, first_batch: int) -> devices.DevicePrefetch:
    """The training batches from one on, on their way to the devices."""
    config = run.config.data
    batches = train_batches(
        run.train_split,
        num_frames=config.num_frames,
        image_size=run.config.build_method().image_size,
        batch_size=data.batch_size,
        seed=data.seed,
        flip=config.flip,
        multi_scale=config.multi_scale,
        num_threads=config.num_threads,
        num_workers=config.num_workers,
        rows=devices.local_rows(data.batch_size, mesh),
        first_batch=first_batch,
    )
    return devices.DevicePrefetch(batches, lambda batch: devices.put_batch(batch, mesh))
