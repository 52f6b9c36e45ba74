r"""Makes a data set ready for training: checks, decodes and stores its videos, and reports.

`arnet train` does the same at its start; done before, it needs no accelerator, and may be shared
among machines. What is prepared already is left as it is, and a preparation that was stopped goes
on from where it was: run the same command again. What is left out, and why, is told at the end and
in `report.json` beside the data. With --check, every video is decoded and nothing is written;
the exit status tells whether preparing would succeed.

Examples:
  arnet prepare --name=video_folder --source-dir=VIDEOS --data-dir=DATA
  arnet prepare --config=activitynet --source-dir=FRAMES --data-dir=DATA --processes=16
  arnet prepare --name=video_folder --source-dir=VIDEOS --check --json=check.json
  arnet prepare --config=activitynet --source-dir=/shared/frames --data-dir=/shared/data \
      --beam-pipeline-options=runner=FlinkRunner,flink_master=host:8081,parallelism=64
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ar_net_jax.errors import UserError

if TYPE_CHECKING:
    from ar_net_jax.config.data import DataConfig
    from ar_net_jax.data.storing.prepare import Writer


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "--config",
        metavar="NAME[:variant]",
        help="a shipped config or a path to a file, whose config.data tells what to prepare",
    )
    parser.add_argument("--name", help="of the data set, instead of the config's")
    parser.add_argument(
        "--source-dir", metavar="DIR", help="the videos, or the frames and lists, to prepare"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="where the prepared data is to lie")
    parser.add_argument(
        "--check",
        action="store_true",
        help="only look: the streams and the decoded length of every video, what is wrong with "
        "it, what would be left out, and the videos of each split and class",
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help="to share the work among (default: all cores)"
    )
    parser.add_argument(
        "--beam-pipeline-options",
        metavar="A=B,...",
        help="prepare with Apache Beam instead: its flags without their dashes, as for `tfds "
        "build`, such as runner=DirectRunner,direct_num_workers=4",
    )
    parser.add_argument("--json", metavar="FILE", help="where else to write the report")
    parser.add_argument("--quiet", action="store_true", help="neither lines nor progress bars")


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.data import registry
    from ar_net_jax.data.splits import check_data, data_home, prepare_data
    from ar_net_jax.runtime.storage import check_output, write_json

    if flags.processes is not None and flags.processes < 1:
        raise UserError(f"--processes: must be at least 1, got {flags.processes}")
    check_output("--json", flags.json)
    data = _data_config(flags, overrides)
    if flags.check:
        checked = check_data(data, processes=flags.processes, progress=not flags.quiet)
        if flags.json:
            write_json(flags.json, checked.to_json())
        print("\n".join(checked.lines()))
        if checked.refusal:
            raise UserError(checked.refusal)
        return
    if not data.data_dir:
        raise UserError("--data-dir: missing; name a directory for the prepared data")
    prepare_data(data, data_home(data), write=_writer(flags), progress=not flags.quiet)
    if flags.json:
        write_json(flags.json, registry.report(data.name, data_dir=data.data_dir))
    print(f"prepared: {data.name} in {data.data_dir}")


def _data_config(flags: argparse.Namespace, overrides: Sequence[str]) -> "DataConfig":
    from ar_net_jax.experiment import Config, apply_overrides, load_config

    given = {
        name: getattr(flags, name)
        for name in ("name", "source_dir", "data_dir")
        if getattr(flags, name) is not None
    }
    if not flags.config and "name" not in given:
        raise UserError("--config or --name: missing; tell what to prepare")
    overrides = [*overrides, *(f"--config.data.{name}={value}" for name, value in given.items())]
    if flags.config:
        return load_config(flags.config, overrides).data
    return apply_overrides(Config.from_dict({}), overrides).data


def _writer(flags: argparse.Namespace) -> "Writer":
    from ar_net_jax.data.storing.beam import pipeline_options, write_with_beam
    from ar_net_jax.data.storing.prepare import write_locally

    if flags.beam_pipeline_options is None:
        return write_locally(flags.processes)
    return write_with_beam(pipeline_options(flags.beam_pipeline_options))
