"""Classifies videos with a trained model, and shows what its policy made of each sampled frame.

Frames are taken as in evaluation: the middle of equal segments of time, the centre of each
picture. Decisions are the most likely ones (argmax).

Examples:
  arnet predict --workdir=RUN clip.mp4
  arnet predict --workdir=RUN --top=3 --json=predictions.json *.mp4
"""

import argparse
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text

from ar_net_jax.config.model import ModelConfig
from ar_net_jax.data import registry
from ar_net_jax.data.video import read_video
from ar_net_jax.errors import UserError
from ar_net_jax.experiment import Config
from ar_net_jax.inference.model import find_model, load
from ar_net_jax.ops.actions import apply_skips


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


def run(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the job."""
    if overrides:
        raise UserError(f"{overrides[0]}: a trained model is used as it is; leave this out")
    if flags.top < 1:
        raise UserError(f"--top: must be at least 1, got {flags.top}")
    for path in flags.videos:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file")
    model = load(flags.workdir)
    names = class_names(model.config, find_model(flags.workdir).parent)
    size, length = model.config.model.image_size, model.config.data.num_frames
    rows = []
    for path in flags.videos:
        frames, times = read_video(path, num_frames=length, size=size)
        result = model(frames[None], policy="argmax")
        rows.append(
            {
                "path": path,
                "classes": _best_classes(np.asarray(result.logits[0]), names, flags.top),
                "frames": _decisions(model.config.model, np.asarray(result.actions), times),
                "gflops": float(result.gflops[0]),
                "gflops_convention": result.gflops_convention,
            }
        )
        print_prediction(rows[-1])
    if flags.json:
        Path(flags.json).write_text(json.dumps({"videos": rows}, indent=2) + "\n")
        print(f"predictions: {flags.json}")


def class_names(config: Config, workdir: Path) -> list[str]:
    """Names of the model's classes, from the data set it was trained on.

    Where that is not at hand, or has fewer classes, the rest are called `class 7` and so on.

    Args:
        config: of the model.
        workdir: the folder around the model's. A training without `data.data_dir` keeps its data
            set there, a demo in the folder around that.
    """
    # The runs of a demo share the data set that lies beside them.
    nearby = (workdir / "data", workdir.parent / "data")
    known: list[str] = []
    for data_dir in (Path(config.data.data_dir),) if config.data.data_dir else nearby:
        with contextlib.suppress(UserError):
            known = registry.class_names(config.data.name, data_dir=data_dir)
            break
    numbered = [f"class {i}" for i in range(config.model.num_classes)]
    return known + numbered[len(known) :]


def print_prediction(row: dict[str, Any], console: rich.console.Console | None = None) -> None:
    """Prints one video's classes, decisions and cost; to the terminal where none is given."""
    console = console or rich.console.Console()
    console.print(rich.text.Text(row["path"], style="bold"))
    classes = rich.table.Table(box=None, pad_edge=False, show_header=False)
    for entry in row["classes"]:
        classes.add_row(f"{100 * entry['probability']:5.1f}%", rich.text.Text(entry["name"]))
    console.print(classes)
    frames = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    frames.add_column("Time (s)", justify="right")
    frames.add_column("Action")
    for frame in row["frames"]:
        covered = " (covered)" if frame["covered"] else ""
        style = "dim" if frame["action"].startswith("skip") else None
        frames.add_row(f"{frame['time']:.2f}", frame["action"] + covered, style=style)
    console.print(frames)
    console.print(f"{row['gflops']:.4g} GFLOPs ({row['gflops_convention']})\n")


def _best_classes(logits: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
    """The most likely classes of a video, best first, from its logits [C]."""
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(logits)))
    return [
        {"index": int(i), "name": names[i], "probability": float(probabilities[i])}
        for i in np.argsort(-probabilities, kind="stable")[:top]
    ]


def _decisions(model: ModelConfig, actions: np.ndarray, times: np.ndarray) -> list[dict[str, Any]]:
    """What was done with each frame of one video.

    Args:
        model: its config.
        actions: int32 [1, T], a skip repeated on the frames that it covers.
        times: float64 [T], seconds.
    """
    names = list(model.space.names)
    if model.approach == "multi_scale":
        names = [" + ".join(names)]
    covered = np.zeros(actions.shape, bool)
    # The random policy's skips drop their own frame only.
    if model.approach == "ar_net":
        covered = np.asarray(apply_skips(jnp.asarray(actions), model.space)[1])
    return [
        {"time": float(time), "action": names[action], "covered": bool(held)}
        for time, action, held in zip(times, actions[0], covered[0], strict=True)
    ]
