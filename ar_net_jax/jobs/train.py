r"""Trains a model through the stages of its config.

Running the same command again goes on where the run stopped. The work directory gets:
  config.json       the config the run belongs to
  history/          metrics.jsonl and TensorBoard event files of each stage
  stages/<name>/    what each finished stage handed on
  model/            the finished model, for `arnet evaluate`

Examples:
  arnet train --config=demo --workdir=run
  arnet train --config=activitynet:efficientnet --workdir=run \
      --config.data.source_dir=frames --config.data.data_dir=data
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ar_net_jax.config_files import load_config, shipped_configs
from ar_net_jax.jobs.data import open_split, prepare_data
from ar_net_jax.training.loop import train


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "--config",
        required=True,
        metavar="NAME[:variant]",
        help=f"a shipped config ({', '.join(shipped_configs())}) or a path to a file; "
        "variants are combined with commas",
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="where the run lives")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    config = load_config(flags.config, overrides)
    workdir, progress = Path(flags.workdir), not flags.quiet
    data_dir = prepare_data(config.data, workdir, progress=progress)
    splits = [
        open_split(config.data, data_dir, split, config.model.num_classes)
        for split in ("train", "validation")
    ]
    model_dir = train(config, workdir, *splits, progress=progress)
    print(f"trained model: {model_dir}")
