"""Prints what a model costs: every action and network, and a video under a given usage.

GFLOPs are billions of multiply-accumulates, in both conventions (`macs` and `paper`). --usage
takes one number per action, in the order of the table: shares that sum to 1, or whole numbers of
frames. Without it, a model with a policy is costed with each action on all frames.

Examples:
  arnet costs --config=activitynet
  arnet costs --config=activitynet:efficientnet --usage=0.2,0.1,0.1,0.2,0.1,0.1,0.2
  arnet costs --config=activitynet --usage=3,2,1,4,2,0,4 --json=costs.json
  arnet costs --workdir=RUN --num_frames=32
"""

import argparse
from collections.abc import Sequence

from ar_net_jax.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", metavar="NAME[:variant]", help="a shipped config, or a file")
    which.add_argument("--workdir", metavar="DIR", help="of `arnet train`, or a model's folder")
    parser.add_argument("--usage", metavar="A,B,...", help="share or number of frames per action")
    parser.add_argument(
        "--num_frames", type=int, metavar="N", help="frames of a video (default: the config's)"
    )
    parser.add_argument("--json", metavar="FILE", help="where to write the figures as JSON")


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.experiment import apply_overrides, load_config
    from ar_net_jax.inference.model import load_config_and_variables
    from ar_net_jax.reporting.costs import cost_figures, print_costs
    from ar_net_jax.runtime.storage import write_json

    if flags.workdir:
        config = apply_overrides(load_config_and_variables(flags.workdir)[0], overrides)
    else:
        config = load_config(flags.config, overrides)
    if flags.num_frames is not None and flags.num_frames < 1:
        raise UserError(f"--num_frames: must be at least 1, got {flags.num_frames}")
    figures = cost_figures(config, usage=flags.usage, num_frames=flags.num_frames)
    print_costs(figures)
    if flags.json:
        write_json(flags.json, {**figures, "config": config.to_dict()})
        print(f"figures: {flags.json}")
