"""Watches a camera, a stream or a file, frame by frame, through a trained model.

In the terminal it shows the label, the decisions, frames a second, how many were dropped because
the model was late, and the work that was skipped; and prints a line for each window of time. Of
each window the model is shown as many frames as it was trained on, evenly; only methods that decide
frame by frame can do that.

A file plays at its own rate. A lost stream is tried again, five times with longer and longer waits.
A camera is watched until Ctrl-C.

Examples:
  arnet watch --workdir=RUN rtsp://HOST/PATH
  arnet watch --workdir=RUN /dev/video0 --video=seen.mp4
  arnet watch --workdir=RUN clip.mp4 --fast --window=5
"""

import argparse
from collections.abc import Sequence

from ar_net_jax.cli.flags import add_method_flag, load_method, refuse_overrides
from ar_net_jax.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a file; an address that FFmpeg opens, such as rtsp://HOST/PATH or "
        "tcp://0.0.0.0:9000?listen; or a camera, /dev/video0 or its number",
    )
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="of `arnet train`, or a model's folder"
    )
    parser.add_argument(
        "--window",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="that a prediction is made of (default: %(default)s)",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="neither wait nor drop frames: a file as fast as the model takes it",
    )
    parser.add_argument(
        "--video",
        metavar="FILE",
        help="write what was watched with label and decisions on it, as .mp4, .mov or .mkv",
    )
    add_method_flag(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.data.classes import told_names
    from ar_net_jax.data.feed import Feed
    from ar_net_jax.data.live import parse_source
    from ar_net_jax.inference.model import load
    from ar_net_jax.inference.watch import Watcher
    from ar_net_jax.reporting.watch import check_target, watch
    from ar_net_jax.runtime.compilation import keep_for_the_user, tell_compiling

    load_method(flags)
    refuse_overrides(overrides)
    if not 0 < flags.window < float("inf"):
        raise UserError(f"--window: must be a number of seconds above 0, got {flags.window:g}")
    source = parse_source(flags.source)
    if flags.video:
        check_target("--video", flags.video, source)
    keep_for_the_user()
    model = load(flags.workdir)
    tell_compiling(f"{model.method.title} for one frame after the other")
    # Compiled before the first frame comes.
    watcher = Watcher(model, told_names(model.config), seconds=flags.window)
    with Feed(source, fast=flags.fast) as feed:
        watch(source.name, feed, watcher, video=flags.video)
    if flags.video:
        print(f"annotated: {flags.video}")
