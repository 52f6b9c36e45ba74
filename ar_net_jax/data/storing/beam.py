"""Preparation as an Apache Beam pipeline: the same units of work, on the machines of a runner.

Every worker writes frame files to the data set's folder and reads the videos, so both must be
reachable under the same path from all of them: a shared file system, or a mounted bucket. The
files are those of a local preparation, to the last bit.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle

from ar_net_jax.data.builder import VideoBuilder
from ar_net_jax.data.storing.pool import pack
from ar_net_jax.data.storing.prepare import Writer, write_shard
from ar_net_jax.data.storing.shards import Shard, ShardRecord, Work
from ar_net_jax.errors import UserError, first_line
from ar_net_jax.runtime.extras import import_extra

_PURPOSE = "preparing with Apache Beam"


def pipeline_options(text: str) -> Any:
    """Options of a pipeline from how TFDS names them on its command line.

    Args:
        text: Beam's own flags without their dashes, separated by commas, such as
            `runner=DirectRunner,direct_num_workers=2`.

    Raises:
        UserError: Beam is missing.
    """
    options = import_extra("apache_beam.options.pipeline_options", _PURPOSE, "beam")
    return options.PipelineOptions([f"--{flag}" for flag in text.split(",") if flag])


def write_with_beam(beam_options: Any = None, beam_runner: Any = None) -> Writer:
    """A `Writer` that runs a pipeline.

    Args:
        beam_options: `apache_beam.options.pipeline_options.PipelineOptions`, as in TFDS's
            `DownloadConfig`; see `pipeline_options`.
        beam_runner: likewise, a runner or its name; None for that of the options.

    Raises:
        UserError: Beam is missing.
    """
    beam = import_extra("apache_beam", _PURPOSE, "beam")

    def write(
        builder: VideoBuilder, folder: Path, shards: list[Shard]
    ) -> Iterator[tuple[Shard, ShardRecord]]:
        packed = pack(write_shard, builder)
        try:
            with beam.Pipeline(runner=beam_runner, options=beam_options) as pipeline:
                _ = (
                    pipeline
                    | "shards" >> beam.Create(shards)
                    | "spread" >> beam.Reshuffle()
                    | "write" >> beam.Map(_write, packed, str(folder.absolute()))
                )
        except Exception as error:  # Of whatever kind the runner has.
            raise UserError(
                f"the Beam pipeline has failed ({first_line(error)}); what it finished is kept"
            ) from error
        work = Work(folder)
        for shard in shards:
            record = work.record(shard)
            if record is None:
                raise UserError(
                    f"{folder}: {shard.file_name} was not written there; all workers of the "
                    "pipeline must reach this folder under the same path"
                )
            yield shard, record

    return write


def _write(shard: Shard, packed: bytes, folder: str) -> None:
    """Runs on a worker, which has this package too."""
    task, builder = cloudpickle.loads(packed)
    task(Path(folder), builder, shard, lambda: None)
