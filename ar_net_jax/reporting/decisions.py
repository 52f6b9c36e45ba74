"""decisions.png: what the policy made of the frames of a few videos (Figure 4 of the paper)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.figure
import matplotlib.patches
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

_INK, _GREY, _RIGHT, _WRONG = "#222222", "#8a8f98", "#2c7a4b", "#d1382c"
# Lengths in units of one frame's side.
_GAP, _HEADER, _CAPTION, _BETWEEN = 0.06, 0.36, 0.2, 0.22
_SIDE_INCHES = 1.05
_LEGEND_HEIGHT = 0.34
_LEGEND = (
    "above: the sampled frames, with their {what}; below: each as large as the classifier saw it,",
    "with what was decided; dashed: left out",
)


@dataclass(frozen=True)
class DecidedVideo:
    """A video with what was decided about it.

    Attributes:
        frames: uint8 [T, H, W, 3], the sampled frames.
        sides: of each frame as the prediction saw it, in pixels; 0 where it was left out.
        captions: what was decided about each frame, in a word or two.
        full_side: of a frame seen whole, in pixels.
        labels: names of the video's classes.
        prediction: name of the best scored class, green if it is one of the labels.
        gflops: cost of the video.
        gflops_convention: how it was counted.
        name: of the video.
        probability: of the best scored class.
        times: of each frame in seconds; None where they are not known.
    """

    frames: np.ndarray
    sides: Sequence[int]
    captions: Sequence[str]
    full_side: int
    labels: Sequence[str]
    prediction: str
    gflops: float
    gflops_convention: str
    name: str = ""
    probability: float | None = None
    times: Sequence[float] | None = None


def plot_decisions(path: str | os.PathLike[str], videos: Sequence[DecidedVideo]) -> None:
    """Draws per video the sampled frames above and what was made of each below.

    Args:
        path: of the PNG.
        videos: from top to bottom.

    Raises:
        ValueError: there is no video.
    """
    if not videos:
        raise ValueError("plot_decisions: there is no video to draw")
    steps = max(len(video.sides) for video in videos)
    height_of_video = _HEADER + 2 + _GAP + _CAPTION
    width = steps + (steps - 1) * _GAP
    height = len(videos) * (height_of_video + _BETWEEN) - _BETWEEN + _LEGEND_HEIGHT
    # Frames would turn to stamps if a long clip had to fit a page; the picture grows instead.
    margin = 0.08
    figure = matplotlib.figure.Figure(
        figsize=((width + 2 * margin) * _SIDE_INCHES, (height + 2 * margin) * _SIDE_INCHES),
        dpi=160,
    )
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-margin, width + margin)
    axes.set_ylim(height + margin, -margin)
    axes.set_axis_off()
    for i, video in enumerate(videos):
        _draw_video(axes, video, top=i * (height_of_video + _BETWEEN), width=width)
    timed = all(video.times is not None for video in videos)
    what = "times" if timed else "numbers"
    # A few frames are not wide enough for one line.
    legend = ("\n" if steps < 8 else " ").join(_LEGEND).format(what=what)
    axes.text(0, height, legend, va="bottom", fontsize=7.5, color=_GREY)
    figure.savefig(path, facecolor="white")


def _draw_video(axes: Axes, video: DecidedVideo, top: float, width: float) -> None:
    """Header, the row of frames, and the row of what the policy saw of them."""
    _draw_header(axes, video, top, width)
    above = top + _HEADER
    below = above + 1 + _GAP
    seen_frames = zip(video.frames, video.sides, video.captions, strict=True)
    for t, (frame, side, caption) in enumerate(seen_frames):
        left = t * (1 + _GAP)
        _draw_frame(axes, frame, left, above, side=1.0)
        axes.text(
            left + 0.04,
            above + 0.95,
            f"{t + 1}" if video.times is None else f"{video.times[t]:.2f} s",
            va="bottom",
            fontsize=6,
            color="white",
            bbox={"facecolor": _INK, "edgecolor": "none", "pad": 1.2, "alpha": 0.75},
            zorder=3,
        )
        if side:
            share = side / video.full_side
            seen = _shrunk(frame, share)
            # Standing on one line, the sizes compare at a glance.
            _draw_frame(axes, seen, left + (1 - share) / 2, below + 1 - share, side=share)
        else:
            axes.add_patch(
                matplotlib.patches.Rectangle(
                    (left, below),
                    1,
                    1,
                    facecolor="#f6f7f8",
                    edgecolor="#d5d8dc",
                    linewidth=0.8,
                    linestyle=(0, (3, 3)),
                )
            )
        axes.text(
            left + 0.5,
            below + 1 + _CAPTION / 2,
            caption,
            ha="center",
            va="center",
            fontsize=7.5,
            color=_INK if side else _GREY,
        )


def _draw_header(axes: Axes, video: DecidedVideo, top: float, width: float) -> None:
    """Label and prediction on the left, cost on the right."""
    middle = top + _HEADER * 0.45
    correct = video.prediction in video.labels
    label = axes.text(
        0,
        middle,
        " + ".join(video.labels),
        va="center",
        fontsize=10.5,
        fontweight="bold",
        color=_INK,
    )
    axes.annotate(
        f"{'✓' if correct else '✗'} predicted {video.prediction}",
        xy=(1, 0.5),
        xycoords=label,
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
        fontsize=9.5,
        color=_RIGHT if correct else _WRONG,
    )
    axes.text(
        width,
        middle,
        f"{video.gflops:.3g} GFLOPs ({video.gflops_convention})",
        ha="right",
        va="center",
        fontsize=9.5,
        color=_GREY,
    )


def _draw_frame(axes: Axes, frame: np.ndarray, left: float, top: float, side: float) -> None:
    axes.imshow(
        frame,
        extent=(left, left + side, top + side, top),
        aspect="auto",
        interpolation="nearest",
        zorder=2,
    )


def _shrunk(frame: np.ndarray, share: float) -> np.ndarray:
    """The frame with its sides times `share`, antialiased, for display only."""
    height, width = frame.shape[:2]
    size = (max(round(width * share), 1), max(round(height * share), 1))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
