"""A whole training from its config: data prepared, splits opened, all stages run."""

from dataclasses import replace

from clu import parameter_overview
from etils import epath

from ar_net_jax.data.source import VideoSource
from ar_net_jax.data.splits import (
    data_home,
    list_classes,
    prepare_data,
    told_source,
    with_absolute_paths,
)
from ar_net_jax.experiment import Config
from ar_net_jax.inference.model import find_model
from ar_net_jax.runtime.compilation import keep_compiled_programs
from ar_net_jax.runtime.distributed import is_first
from ar_net_jax.runtime.processes import first_process_first
from ar_net_jax.runtime.run_lock import locked
from ar_net_jax.runtime.storage import open_storage, write_whole
from ar_net_jax.training.batch_size import settle_batch
from ar_net_jax.training.log import Reporting
from ar_net_jax.training.loop import train
from ar_net_jax.training.record import check_config, take_classes_for_run
from ar_net_jax.weights.pretrained import pretrained_variables


def run_training(
    config: Config,
    workdir: epath.PathLike,
    *,
    progress: bool = True,
    reporting: Reporting | None = None,
) -> epath.Path:
    """Trains a model on its config's data, or resumes where an earlier call stopped.

    All processes of a job must call this.

    Args:
        config: of the run.
        workdir: a local or shared folder, or one in a bucket.
        progress: whether to show progress bars.
        reporting: what else to show and record.

    Returns:
        The directory of the finished model.

    Raises:
        UserError: the data has other classes than the config asks for, or another process trains
            there; and as `prepare_data`, `pretrained_variables` and `train`.
        Preempted: the machine is to be given up; the last step is saved.
    """
    workdir, progress = open_storage(workdir), progress and is_first()
    keep_compiled_programs(workdir / "compiled")
    config = replace(config, data=with_absolute_paths(config.data))
    home = data_home(config.data, workdir)
    # Before anything is decoded or downloaded.
    where = told_source(config.data)
    config = take_classes_for_run(config, workdir, list_classes(config.data, home), where)
    check_config(settle_batch(config, workdir, None), workdir)
    lines = reporting is not None and reporting.lines
    with locked(workdir, tell=lines):
        if not (workdir / "checkpoints").exists():
            # Errors show before the data is prepared.
            pretrained_variables(config)
            if config.init_from:
                find_model(config.init_from)
        splits = ("train", "validation")
        folder = first_process_first(
            lambda: prepare_data(config.data, home, needed=splits, progress=progress),
            "prepare data",
        )
        train_split, validation = (VideoSource(folder, split) for split in splits)
        if is_first() and not (workdir / "config.json").exists():
            _write_parameters(config, workdir)
        return train(
            config, workdir, train_split, validation, progress=progress, reporting=reporting
        )


def _write_parameters(config: Config, workdir: epath.Path) -> None:
    """Lists every parameter of the model with its shape, and how many numbers they are in all."""
    params = config.build_method().variable_shapes()["params"]
    table = parameter_overview.get_parameter_overview(params, include_stats=False)
    workdir.mkdir(parents=True, exist_ok=True)
    write_whole(workdir / "parameters.txt", table + "\n")
