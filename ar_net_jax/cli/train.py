r"""Trains a model through the stages of its config.

Running the same command again goes on where the run stopped. On SIGTERM it saves the present step
and exits with status 75. The work directory gets:
  config.json       the config the run belongs to, with the names of its classes
  data.json         what the run was begun on; other videos are refused when it goes on
  parameters.txt    the model's parameters with their shapes, and how many there are
  history/          metrics.jsonl and TensorBoard event files of each stage
  checkpoints/      the state of the present stage
  stages/<name>/    what each finished stage handed on
  compiled/         compiled programs, for the next start
  model/            the finished model, for `arnet evaluate`

Examples:
  arnet train --config=activitynet:uniform --print-config
  arnet train --config=activitynet --dry-run
  arnet train --config=activitynet --dry-run --topology=v5e:4x4
  arnet train --config=demo --workdir=run
  arnet train --config=activitynet:efficientnet --workdir=run \
      --config.data.source_dir=frames --config.data.data_dir=data
  arnet train --config=activitynet --workdir=/shared/run \
      --coordinator=host0:8476 --num-processes=2 --process-id=0
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ar_net_jax.cli.flags import (
    add_method_flag,
    add_topology_flag,
    load_method,
    tell_open_classes,
    wanted_slice,
)
from ar_net_jax.cli.processes import add_process_flags, joined
from ar_net_jax.config.shipped import shipped_configs
from ar_net_jax.errors import UserError

if TYPE_CHECKING:
    from ar_net_jax.experiment import Config
    from ar_net_jax.topology import Slice
    from ar_net_jax.training.log import Reporting


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "--config",
        required=True,
        metavar="NAME[:variant]",
        help=f"a shipped config ({', '.join(shipped_configs())}) or a path to a file; "
        "variants are combined with commas",
    )
    parser.add_argument(
        "--workdir",
        metavar="DIR",
        help="where the run lives; several processes must share it",
    )
    parser.add_argument("--quiet", action="store_true", help="neither lines nor progress bars")
    parser.add_argument(
        "--profile",
        metavar="A:B",
        help="profile the steps A to B of each stage; open history/<stage>/profile with xprof",
    )
    parser.add_argument(
        "--log-examples",
        action="store_true",
        help="record the videos of every step in history/<stage>/examples_<process>.jsonl",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only compile the step of each stage for the devices here, without data, and print "
        "memory, FLOPs and whether it fits; pretended devices come from "
        "XLA_FLAGS=--xla_force_host_platform_device_count=8",
    )
    add_topology_flag(
        parser,
        "with --dry-run: compile for these TPU chips, which need not be here, and print memory, "
        "FLOPs, bytes, bounds and collectives of each stage, and of routed inference on one chip",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="only print the config as it would run, with every field, as JSON",
    )
    add_method_flag(parser)
    add_process_flags(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.experiment import load_config
    from ar_net_jax.training.log import Reporting
    from ar_net_jax.training.profiling import parse_span

    if flags.topology and not flags.dry_run:
        raise UserError("--topology: only compiles; give --dry-run too")
    wanted = wanted_slice(flags)
    load_method(flags)
    config = load_config(flags.config, overrides)
    if flags.print_config:
        print(json.dumps(config.to_dict(), indent=2))
        return
    reporting = Reporting(
        lines=not flags.quiet,
        profile=parse_span(flags.profile) if flags.profile else None,
        examples=flags.log_examples,
    )
    if not flags.workdir and not flags.dry_run:
        raise UserError("--workdir: missing; name a directory for the run")
    if wanted is not None:
        _described_dry_run(flags.config, config, wanted)
        return
    with joined(flags):
        if flags.dry_run:
            _dry_run(config)
        else:
            _train(config, flags.workdir, reporting)


def _dry_run(config: "Config") -> None:
    from ar_net_jax.reporting.dry_run import print_checks
    from ar_net_jax.runtime.distributed import is_first
    from ar_net_jax.training.batch_size import for_a_full_batch
    from ar_net_jax.training.dry_run import dry_run, require_fit

    config = for_a_full_batch(config)
    checks = dry_run(config)
    if is_first():
        print_checks(config, checks)
        tell_open_classes(config.model.num_classes)
    require_fit(config, checks)


def _described_dry_run(spec: str, config: "Config", wanted: "Slice") -> None:
    from ar_net_jax.inference.described import check_inference
    from ar_net_jax.reporting.topology import print_inference, print_stages, stage_line
    from ar_net_jax.training.dry_run import DescribedStage, describe_stage, require_fit

    stages: list[DescribedStage] = []
    try:
        for index, name in enumerate(config.stage_order):
            print(f"compiling the step of stage '{name}' for {wanted.name}", file=sys.stderr)
            stages.append(describe_stage(config, index, wanted))
            print(stage_line(stages[-1]), file=sys.stderr)
    finally:  # Each may have taken long.
        if stages:
            print_stages(config, wanted, stages)
    (inference,) = check_inference(config, wanted)
    print_inference(spec, config.model.dtype, wanted, inference)
    tell_open_classes(config.model.num_classes)
    require_fit(config, stages)


def _train(config: "Config", workdir: str, reporting: "Reporting") -> None:
    from ar_net_jax.runtime.compilation import describe_programs
    from ar_net_jax.runtime.distributed import is_first
    from ar_net_jax.training.run import run_training

    model_dir = run_training(config, workdir, progress=reporting.lines, reporting=reporting)
    if is_first():
        if reporting.lines:
            print(describe_programs())
        print(f"trained model: {model_dir}")
