"""Classifies videos with a trained model, and shows what its policy made of each sampled frame.

Frames are taken as in evaluation: the middle of equal segments of time, the centre of each
picture. Decisions are the most likely ones (argmax). A file that cannot be read is told and the
others go on; the status is then 1.

A long video is better seen in windows: each is classified by itself, and the class at any time is
the most likely one on the average of the windows that hold that time.

Examples:
  arnet predict --workdir=RUN clip.mp4
  arnet predict --workdir=RUN clip.mp4 --video=annotated.mp4
  arnet predict --workdir=RUN --top=3 --json=predictions.json videos/ 'more/**/*.mkv'
  arnet predict --workdir=RUN --html=report.html videos/
  arnet predict --workdir=RUN --window=30 --stride=10 film.mp4
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ar_net_jax.cli.flags import add_method_flag, add_plan_flag, load_method, refuse_overrides
from ar_net_jax.errors import UserError

if TYPE_CHECKING:
    from ar_net_jax.inference.predict import Windowing


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="a file that FFmpeg reads; a folder, for all videos below it; or a pattern in quotes",
    )
    parser.add_argument(
        "--workdir",
        required=True,
        metavar="DIR",
        help="of `arnet train`, a model's folder or file, or hf://OWNER/NAME",
    )
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="classes to name (default: %(default)s)"
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="where to write the predictions as JSON; it is whole after every video",
    )
    parser.add_argument(
        "--html", metavar="FILE", help="where to write them as a page to look at in a browser"
    )
    parser.add_argument(
        "--video",
        metavar="FILE",
        help="write the video with label, decisions and running GFLOPs on it, as .mp4, .mov or "
        ".mkv; a folder for several videos, each as NAME.mp4",
    )
    parser.add_argument(
        "--window",
        type=float,
        metavar="SECONDS",
        help="classify every stretch of so many seconds by itself",
    )
    parser.add_argument(
        "--stride",
        type=float,
        metavar="SECONDS",
        help="from the start of a window to that of the next (default: a window's length)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=2,
        metavar="N",
        help="videos to decode at once (default: %(default)s)",
    )
    add_plan_flag(parser)
    add_method_flag(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    for flag in ("top", "jobs"):
        if getattr(flags, flag) < 1:
            raise UserError(f"--{flag}: must be at least 1, got {getattr(flags, flag)}")
    windowing = _windowing(flags)

    from ar_net_jax.data.listing.inputs import expand_inputs
    from ar_net_jax.reporting.annotated import plan_targets
    from ar_net_jax.runtime.storage import check_output, local_path

    load_method(flags)
    refuse_overrides(overrides)
    if flags.json:
        check_output("--json", local_path("--json", flags.json))
    check_output("--html", flags.html)
    files, faults = expand_inputs(flags.videos)
    if not files:
        raise UserError("; ".join(faults.values()))
    targets = plan_targets("--video", flags.video, files) if flags.video else {}
    unread = _predict(flags, files, faults, targets, windowing)
    if unread:
        raise UserError(f"{unread} of {len(files) + len(faults)} videos could not be read")


def _predict(
    flags: argparse.Namespace,
    files: Sequence[Path],
    faults: Mapping[str, str],
    targets: dict[str, Path],
    windowing: "Windowing | None",
) -> int:
    """Predicts, prints and writes; returns how many videos could not be read.

    Args:
        flags: of the job.
        files: to be read.
        faults: by name, why there is no video of it.
        targets: of annotated videos, by the path of the file.
        windowing: of long videos, or None.
    """
    import contextlib
    import itertools

    from ar_net_jax.data.classes import told_names
    from ar_net_jax.inference.model import load
    from ar_net_jax.inference.predict import UnreadVideo, predict_videos
    from ar_net_jax.reporting.annotated import annotate_video
    from ar_net_jax.reporting.page.predicted import write_prediction_page
    from ar_net_jax.reporting.prediction import print_prediction
    from ar_net_jax.reporting.predictions_file import PredictionsFile
    from ar_net_jax.runtime.compilation import keep_for_the_user, tell_compiling

    keep_for_the_user()
    model = load(flags.workdir, plan=flags.plan)
    if not model.config.class_names:
        print("this model has no names of classes; `arnet convert --classes=FILE` gives it some")
    tell_compiling(f"{model.method.title} for {model.config.data.num_frames} frames of a video")
    missing = [UnreadVideo(name, reason) for name, reason in faults.items()]
    predicted = predict_videos(
        model,
        [str(path) for path in files],
        told_names(model.config),
        top=flags.top,
        jobs=flags.jobs,
        windowing=windowing,
    )
    costliest = float(model.method.choice_gflops().max())
    unread, seen = 0, []
    with contextlib.ExitStack() as stack:
        output = None
        if flags.json:
            output = stack.enter_context(PredictionsFile(flags.json, model.describe_plan()))
        for video in itertools.chain(missing, predicted):
            if output is not None:
                output.add(video)
            if isinstance(video, UnreadVideo):
                if len(files) + len(faults) == 1:
                    raise UserError(video.reason)
                unread += 1
                _tell(flags, video.reason)
                continue
            seen.append(video)
            print_prediction(video)
            if target := targets.get(video.path):
                annotate_video(video, target, costliest)
                print(f"annotated: {target}\n")
    if flags.json:
        print(f"predictions: {flags.json}")
    if flags.html and seen:
        write_prediction_page(flags.html, model, seen)
        print(f"to look at: {flags.html}")
    return unread


def _tell(flags: argparse.Namespace, fault: str) -> None:
    sys.stdout.flush()
    print(f"arnet {flags.job}: {fault}", file=sys.stderr)


def _windowing(flags: argparse.Namespace) -> "Windowing | None":
    if flags.window is None:
        if flags.stride is not None:
            raise UserError("--stride: give --window=SECONDS too, the length of a window")
        return None
    stride = flags.window if flags.stride is None else flags.stride
    for flag, value in (("window", flags.window), ("stride", stride)):
        if not 0 < value < float("inf"):
            raise UserError(f"--{flag}: must be a number of seconds above 0, got {value:g}")
    from ar_net_jax.inference.predict import Windowing

    return Windowing(flags.window, stride)
