"""Prints what a model costs: every network and choice, and a video under a given usage.

GFLOPs are billions of multiply-accumulates, in both conventions (`macs` and `paper`). --usage
takes one number per choice, in the order of the table: shares that sum to 1, or whole numbers of
frames. Without it, a model with several choices is costed with each of them on all frames.

Examples:
  arnet costs --config=activitynet
  arnet costs --config=activitynet:efficientnet --usage=0.2,0.1,0.1,0.2,0.1,0.1,0.2
  arnet costs --config=activitynet --usage=3,2,1,4,2,0,4 --json=costs.json
  arnet costs --workdir=RUN --num-frames=32
"""

import argparse
import dataclasses
from collections.abc import Sequence

from ar_net_jax.cli.flags import add_method_flag, load_method, tell_open_classes
from ar_net_jax.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", metavar="NAME[:variant]", help="a shipped config, or a file")
    which.add_argument("--workdir", metavar="DIR", help="of `arnet train`, or a model's folder")
    parser.add_argument("--usage", metavar="A,B,...", help="share or number of frames per choice")
    parser.add_argument(
        "--num-frames", type=int, metavar="N", help="frames of a video (default: the config's)"
    )
    parser.add_argument("--json", metavar="FILE", help="where to write the figures as JSON")
    add_method_flag(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.experiment import apply_overrides, load_config
    from ar_net_jax.inference.model import load_config_and_variables
    from ar_net_jax.reporting.costs import model_costs, print_costs
    from ar_net_jax.runtime.storage import check_output, write_json

    load_method(flags)
    check_output("--json", flags.json)
    if flags.workdir:
        config = apply_overrides(load_config_and_variables(flags.workdir)[0], overrides)
    else:
        config = load_config(flags.config, overrides)
    if flags.num_frames is not None and flags.num_frames < 1:
        raise UserError(f"--num-frames: must be at least 1, got {flags.num_frames}")
    costs = model_costs(config, usage=flags.usage, num_frames=flags.num_frames)
    print_costs(costs)
    tell_open_classes(config.model.num_classes)
    if flags.json:
        write_json(flags.json, {**dataclasses.asdict(costs), "config": config.to_dict()})
        print(f"figures: {flags.json}")
