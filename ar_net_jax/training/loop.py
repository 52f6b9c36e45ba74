"""A whole training: stage after stage; the same call goes on where an earlier one stopped.

A run lives in its work directory: `stages/<name>/` holds the variables and the record of a finished
stage, `checkpoints/<name>/` the state of the stage that is under way, `model/` the finished model,
`config.json` and `data.json` what the run was begun with. All processes of a job share the
directory; the first of them writes what is not a checkpoint.
"""

import contextlib
import errno
import json
from collections.abc import Iterator
from typing import Any

from etils import epath

from ar_net_jax.checkpoints import holds_model, load_model, save_model
from ar_net_jax.data.source import VideoSource
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.model import load_variables
from ar_net_jax.runtime.distributed import is_first, wait_for_all
from ar_net_jax.runtime.preemption import PreemptionHandler
from ar_net_jax.training import parts
from ar_net_jax.training.batch_size import settle_batch, tell_batch
from ar_net_jax.training.log import Reporting
from ar_net_jax.training.record import begin, take_classes_for_run, write_json
from ar_net_jax.training.stage import Run, StageRecord, run_stage
from ar_net_jax.training.trouble import missing_classes

_STAGE_RECORD = "stage.json"


def train(
    config: Config,
    workdir: epath.PathLike,
    train_split: VideoSource,
    validation_split: VideoSource,
    *,
    progress: bool = True,
    reporting: Reporting | None = None,
    until: str | None = None,
) -> epath.Path:
    """Trains a model through all stages, or resumes where an earlier call stopped.

    The model gets the classes of the training videos: their number, where the config leaves it
    open, and their names. All processes of a job must call this.

    Args:
        config: of the run.
        workdir: local or in a bucket; see the module's docstring for what it gets.
        train_split: the training videos.
        validation_split: the videos on which epochs are compared.
        progress: whether to show progress bars.
        reporting: what else to show and record.
        until: name of the stage to end with for now; another call does the rest. All stages by
            default.

    Returns:
        The directory of the finished model, or that of the stage `until`.

    Raises:
        UserError: the config asks for what the data or the work directory cannot give, the videos
            are not those that the run began with, a record is damaged, the loss is no longer
            finite, or a checkpoint cannot be written.
        Preempted: the machine is to be given up; the last step is saved.
    """
    workdir = epath.Path(workdir)
    model_dir = workdir / "model"
    names, where = train_split.class_names, f"data set '{config.data.name}'"
    config = take_classes_for_run(config, workdir, names, where)
    given, config = config, settle_batch(config, workdir, len(train_split))
    begin(config, workdir, train_split, validation_split)
    reporting = reporting or Reporting()
    if holds_model(model_dir):
        reporting.say(f"{workdir}: this run is finished; there is nothing left to train")
        return model_dir
    if reporting.lines and is_first():
        _tell_beforehand(config, given, train_split, validation_split)
    variables = _given_variables(config)
    handed_on: dict[str, float] = {}
    with _full_disk_explained(workdir), PreemptionHandler() as preemption:
        run = Run(
            config=config,
            workdir=workdir,
            train_split=train_split,
            validation_split=validation_split,
            preemption=preemption,
            reporting=reporting,
            progress=progress,
        )
        for index, name in enumerate(config.stage_order):
            stage_dir = _finished_stage(run, index, variables, handed_on)
            if name == until:
                return stage_dir
            variables = load_model(stage_dir)[0]
            record = StageRecord.from_dict(json.loads((stage_dir / _STAGE_RECORD).read_text()))
            handed_on = record.handed_on
            if name != config.stage_order[-1] and preemption.requested():
                raise preemption.notice(f"stage '{name}' is finished")
    save_model(model_dir, variables, config.to_dict())
    return model_dir


def _given_variables(config: Config) -> Any:
    """What the first stage starts from, its modules named as here; None where nothing is given."""
    if not config.init_from:
        return None
    elsewhere = config.build_method().elsewhere
    return parts.as_named_here(load_variables(config.init_from), elsewhere)


def _tell_beforehand(
    config: Config, given: Config, train_split: VideoSource, validation_split: VideoSource
) -> None:
    """Says what was settled for a run, and what its videos lack."""
    if told := tell_batch(config, given, len(train_split)):
        print(told)
    for line in missing_classes((train_split, validation_split)):
        print(line)


def _finished_stage(
    run: Run, index: int, variables: Any, handed_on: dict[str, float]
) -> epath.Path:
    """The directory of a stage's variables and record; runs it unless an earlier call has.

    Args:
        run: the run that the stage is part of.
        index: of the stage.
        variables: that it starts from; None for fresh ones.
        handed_on: by the stage before.
    """
    name = run.config.stage_order[index]
    stage_dir = run.workdir / "stages" / name
    if (stage_dir / _STAGE_RECORD).exists():
        run.reporting.say(f"{name}: finished before")
    else:
        variables, record = run_stage(run, index, variables, handed_on)
        save_model(stage_dir, variables, run.config.to_dict())
        if is_first():
            write_json(stage_dir / _STAGE_RECORD, record.to_dict())
        wait_for_all(f"end of stage {name}")
    return stage_dir


@contextlib.contextmanager
def _full_disk_explained(workdir: epath.Path) -> Iterator[None]:
    """Says what to do when the history or a record cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"{workdir}: cannot be written to ({error.strerror}); the last checkpoint is kept. "
            "See that there is space, then run the same command to go on from it"
        ) from error
