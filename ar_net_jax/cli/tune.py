"""Measures how a model's inference runs best on this device, and keeps that as a plan.

Each backbone is timed on 1, 2, 4, 8, ... frames at once; then the whole, as loops on the device and
as chunks that the host starts once it knows the decisions. The plan goes into the user's cache
(ARNET_CACHE_DIR, by default ~/.cache/ar_net_jax), by kind of device and by the model's backbones,
resolutions and precision. `arnet evaluate`, `predict`, `benchmark` and `ar_net_jax.load` take it
from there; their --plan=none ignores it. Trainings and exports never take one.

Examples:
  arnet tune --config=activitynet
  arnet tune --workdir=RUN --seconds=120
  arnet tune --config=activitynet --config.model.dtype=bfloat16 --output=plan.json
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ar_net_jax.cli.flags import add_method_flag, load_method
from ar_net_jax.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", metavar="NAME[:variant]", help="a shipped config, or a file")
    which.add_argument("--workdir", metavar="DIR", help="of `arnet train`, or a model's folder")
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="after which nothing is measured but the built-in sizes (default: %(default)g)",
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="of videos (default: 4 on a CPU, 32 elsewhere)"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="where to write the plan in place of the user's cache"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    add_method_flag(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.benchmarks.entries import fresh_variables
    from ar_net_jax.benchmarks.run import choose_settings
    from ar_net_jax.benchmarks.tune import tune
    from ar_net_jax.benchmarks.tuning_report import print_tuning
    from ar_net_jax.experiment import apply_overrides, load_config
    from ar_net_jax.inference.model import check_variables, load_config_and_variables
    from ar_net_jax.inference.plans import keep_plan
    from ar_net_jax.runtime.storage import check_output

    load_method(flags)
    check_output("--output", flags.output)
    if not flags.seconds > 0:
        raise UserError(f"--seconds: must be above 0, got {flags.seconds:g}")
    if flags.workdir:
        config, variables = load_config_and_variables(flags.workdir)
        config = apply_overrides(config, overrides)
        check_variables(config, variables, flags.workdir)
    else:
        config = load_config(flags.config, overrides)
        variables = fresh_variables(config.build_method())
    found = tune(
        config,
        variables,
        videos=choose_settings(batch=flags.batch).batch,
        budget=flags.seconds,
        progress=not flags.quiet,
    )
    print_tuning(found)
    print(f"plan: {keep_plan(found.plan, Path(flags.output) if flags.output else None)}")
