"""Classifies videos with a trained model, and shows what its policy made of each sampled frame.

Frames are taken as in evaluation: the middle of equal segments of time, the centre of each
picture. Decisions are the most likely ones (argmax).

Examples:
  arnet predict --workdir=RUN clip.mp4
  arnet predict --workdir=RUN --top=3 --json=predictions.json *.mp4
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ar_net_jax.cli.flags import add_method_flag, load_method, refuse_overrides
from ar_net_jax.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds this job's flags."""
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="a file that FFmpeg reads")
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="of `arnet train`, or a model's folder"
    )
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="classes to name (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="where to write the predictions as JSON")
    add_method_flag(parser)


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    from ar_net_jax.data.classes import told_names
    from ar_net_jax.inference.model import load
    from ar_net_jax.inference.predict import predict_videos
    from ar_net_jax.reporting.prediction import print_prediction
    from ar_net_jax.runtime.storage import check_output, write_json

    load_method(flags)
    refuse_overrides(overrides)
    if flags.top < 1:
        raise UserError(f"--top: must be at least 1, got {flags.top}")
    for path in flags.videos:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file")
    check_output("--json", flags.json)
    model = load(flags.workdir)
    if not model.config.class_names:
        print("this model has no names of classes; `arnet convert --classes=FILE` gives it some")
    names = told_names(model.config)
    videos = []
    for video in predict_videos(model, flags.videos, names, top=flags.top):
        print_prediction(video)
        videos.append(dataclasses.asdict(video))
    if flags.json:
        write_json(flags.json, {"videos": videos})
        print(f"predictions: {flags.json}")
