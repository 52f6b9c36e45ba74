"""Exports a trained model as one StableHLO file, which JAX runs without this package.

The file holds the routed program and the weights. It takes frames uint8 [batch, time, side, side,
3], RGB from 0 to 255, and gives a dict of logits, actions and GFLOPs per video. OUTPUT.json beside
it names classes, actions, shapes and versions. To run it:

  exported = jax.export.deserialize(open("model.stablehlo", "rb").read())
  answer = jax.jit(exported.call)(frames)

Examples:
  arnet export --workdir=RUN --output=model.stablehlo
  arnet export --workdir=RUN --output=model.stablehlo --platforms=cpu --batch=1 --chunks=4,2
"""

import argparse
import json
import time
import typing
from collections.abc import Sequence
from typing import Any

import jax

from ar_net_jax.cli.predict import class_names
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.chunks import plan_chunks
from ar_net_jax.inference.export import (
    PLATFORMS,
    ExportOptions,
    check_target,
    describe_export,
    export_model,
    write_whole,
)
from ar_net_jax.inference.model import find_model, load_config_and_variables
from ar_net_jax.inference.step import Policy
from ar_net_jax.ops.routing import Chunks
from ar_net_jax.reporting.tables import package_versions
from ar_net_jax.runtime.storage import local_path

_OPEN = "symbolic"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="of `arnet train`, or a model's folder"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="where to write")
    parser.add_argument(
        "--num_frames", type=int, metavar="T", help="frames of a video (default: the config's)"
    )
    parser.add_argument(
        "--batch",
        default=_OPEN,
        metavar="N",
        help="videos per call; %(default)s, the default, leaves it open",
    )
    parser.add_argument(
        "--platforms",
        default=",".join(PLATFORMS),
        metavar="A,B",
        help="that it can run on (default: %(default)s)",
    )
    parser.add_argument(
        "--policy",
        choices=typing.get_args(Policy),
        default="argmax",
        help="take the most likely action, or draw it, the same way each call "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of drawn actions (default: %(default)s)",
    )
    parser.add_argument(
        "--chunks",
        metavar="A,B",
        help="numbers of frames that a backbone takes at once, descending, instead of those "
        "usual on each platform",
    )


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    if overrides:
        raise UserError(f"{overrides[0]}: a trained model is used as it is; leave this out")
    output = local_path("--output", flags.output)
    check_target(output)
    description = output.with_name(f"{output.name}.json")
    check_target(description)
    model_dir = find_model(flags.workdir)
    config, variables = load_config_and_variables(model_dir)
    options = _options(flags, config)
    print(_announcement(options, variables), flush=True)
    started = time.monotonic()
    data = export_model(config, variables, options)
    write_whole(output, data)
    facts = {
        **describe_export(config, options),
        "classes": class_names(config, model_dir.parent),
        "versions": package_versions(),
        "config": config.to_dict(),
    }
    write_whole(description, (json.dumps(facts, indent=2) + "\n").encode())
    seconds = time.monotonic() - started
    print(f"written in {seconds:.0f} s: {output} ({len(data) / 1e6:.1f} MB), {description}")


def _options(flags: argparse.Namespace, config: Config) -> ExportOptions:
    options = ExportOptions(
        num_frames=config.data.num_frames if flags.num_frames is None else flags.num_frames,
        batch=None if flags.batch == _OPEN else _numbers("--batch", flags.batch, 1)[0],
        platforms=tuple(dict.fromkeys(flags.platforms.split(","))),
        policy=flags.policy,
        seed=flags.seed,
        chunks=None if flags.chunks is None else _numbers("--chunks", flags.chunks),
    )
    plan_chunks(config.model, options.platforms[0], options.chunks)  # Refuses impossible ones.
    return options


def _numbers(flag: str, text: str, count: int | None = None) -> Chunks:
    """Whole numbers between commas."""
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or count not in (None, len(parts)):
        expected = f"'{_OPEN}' or a whole number" if count else "whole numbers such as 8,2"
        raise UserError(f"{flag}: must be {expected}, got '{text}'")
    return tuple(int(part) for part in parts)


def _announcement(options: ExportOptions, variables: Any) -> str:
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(variables)) / 1e6
    count = "any number of" if options.batch is None else options.batch
    return (
        f"exporting for {', '.join(options.platforms)}: {count} videos of {options.num_frames} "
        f"frames, {size:.1f} MB of weights"
    )
