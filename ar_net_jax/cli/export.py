"""Exports a trained model as one StableHLO file, which JAX runs without this package, or as ONNX.

The file holds the routed program and the weights. It takes frames uint8 [batch, time, side, side,
3], RGB from 0 to 255, and gives a dict of logits, actions and GFLOPs per video. OUTPUT.json beside
it names classes, actions, shapes and versions. To run it:

  exported = jax.export.deserialize(open("model.stablehlo", "rb").read())
  answer = jax.jit(exported.call)(frames)

An output that ends in .onnx is written for ONNX Runtime (extra onnx), with the same inputs and
outputs: all networks on all frames where the batch is open, chosen frames only with --batch=N.

Examples:
  arnet export --workdir=RUN --output=model.stablehlo
  arnet export --workdir=RUN --output=model.stablehlo --platforms=cpu --batch=1 --chunks=4,2
  arnet export --workdir=RUN --output=model.onnx
"""

import argparse
import time
from collections.abc import Sequence

from ar_net_jax.cli.flags import add_method_flag, load_method, numbers, refuse_overrides

_OPEN = "symbolic"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "--workdir",
        required=True,
        metavar="DIR",
        help="of `arnet train`, a model's folder or file, or hf://OWNER/NAME",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="where to write; FILE.onnx for ONNX, any other for StableHLO",
    )
    parser.add_argument(
        "--num-frames", type=int, metavar="T", help="frames of a video (default: the config's)"
    )
    parser.add_argument(
        "--batch",
        type=_batch,
        default=_OPEN,
        metavar="N",
        help="videos per call; %(default)s, the default, leaves it open",
    )
    parser.add_argument(
        "--platforms",
        default="cpu,cuda,tpu",
        metavar="A,B",
        help="that a StableHLO file can run on (default: %(default)s)",
    )
    parser.add_argument(
        "--policy",
        choices=("argmax", "sample"),
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
        type=numbers(int),
        metavar="N[,N...]",
        help="numbers of frames that a backbone takes at once, descending, instead of those "
        "usual on each platform",
    )
    add_method_flag(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.inference.export import check_targets, export_to_files
    from ar_net_jax.inference.export_options import ExportOptions
    from ar_net_jax.inference.model import load_config_and_variables
    from ar_net_jax.runtime.storage import local_path

    load_method(flags)
    refuse_overrides(overrides)
    output = local_path("--output", flags.output)
    onnx = check_targets(output).program.suffix == ".onnx"
    config, variables = load_config_and_variables(flags.workdir)
    options = ExportOptions(
        num_frames=config.data.num_frames if flags.num_frames is None else flags.num_frames,
        batch=flags.batch,
        platforms=tuple(dict.fromkeys(flags.platforms.split(","))),
        policy=flags.policy,
        seed=flags.seed,
        chunks=flags.chunks,
    )
    count = "any number of" if options.batch is None else options.batch
    targets = "ONNX" if onnx else ", ".join(options.platforms)
    print(f"exporting for {targets}: {count} videos of {options.num_frames} frames", flush=True)
    started = time.monotonic()
    files = export_to_files(output, config, variables, options)
    print(
        f"written in {time.monotonic() - started:.0f} s: {files.program} "
        f"({files.program.stat().st_size / 1e6:.1f} MB), {files.description}"
    )


def _batch(text: str) -> int | None:
    """The type of `--batch`; None leaves it open."""
    if text == _OPEN:
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be '{_OPEN}' or a whole number, got {text!r}"
        ) from None
