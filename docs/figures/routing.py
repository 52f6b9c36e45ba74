"""Draws `routing.svg`: how chosen frames reach their backbones. Run it to draw it anew."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch, Rectangle

# What was decided about sixteen frames: a network, or none.
DECIDED = (0, None, 2, 1, 1, None, None, 0, 2, 2, 1, None, 2, None, 1, 2)
NETWORKS = ("ResNet-50, 224 px", "ResNet-34, 168 px", "ResNet-18, 112 px")
CHUNKS = (2, 4, 4)
COLOURS = ("#b2182b", "#ef8a62", "#67a9cf")
SKIPPED, EMPTY, INK = "#e6e6e6", "#ffffff", "#333333"


def frame(ax: plt.Axes, x: float, y: float, text: str, colour: str) -> None:
    """A frame, with its number."""
    text_colour = "white" if colour == COLOURS[0] else INK
    ax.add_patch(Rectangle((x, y), 0.8, 0.8, facecolor=colour, edgecolor=INK, linewidth=0.8))
    ax.text(x + 0.4, y + 0.38, text, ha="center", va="center", fontsize=9, color=text_colour)


def chunks(ax: plt.Axes, row: int, left: float) -> None:
    """The chunks of one network: its frames brought to the front, the last chunk filled up."""
    chosen = [i for i, network in enumerate(DECIDED) if network == row]
    size, y = CHUNKS[row], 3.6 - 1.5 * row
    rows = -(-len(chosen) // size) * size
    for place in range(rows):
        x = left + place + 0.35 * (place // size)
        if place < len(chosen):
            frame(ax, x, y, str(chosen[place]), COLOURS[row])
        else:
            frame(ax, x, y, "", EMPTY)
    ax.text(left - 0.4, y + 0.4, NETWORKS[row], ha="right", va="center", fontsize=10, color=INK)
    box = dict(boxstyle="round,pad=0.1", facecolor="none", edgecolor=COLOURS[row], linewidth=1.4)
    for start in range(0, rows, size):
        x = left + start + 0.35 * (start // size)
        ax.add_patch(FancyBboxPatch((x, y), size - 0.2, 0.8, **box))


def main() -> None:
    """Draws the figure beside this file."""
    matplotlib.rcParams["svg.hashsalt"] = "routing"
    figure, ax = plt.subplots(figsize=(9, 4.2))
    for i, network in enumerate(DECIDED):
        frame(ax, i, 5.6, str(i), SKIPPED if network is None else COLOURS[network])
    ax.text(0, 6.65, "decided: which network sees each frame (grey: skipped)", fontsize=10)
    ax.text(0, 4.85, "computed: chunks of each network's own frames, then it stops", fontsize=10)
    for row in range(len(NETWORKS)):
        chunks(ax, row, 5.2)
    ax.text(0, -0.25, "white: what fills up a last chunk, the only work for nothing", fontsize=10)
    ax.set_xlim(-0.3, 16.2)
    ax.set_ylim(-0.6, 7.1)
    ax.set_axis_off()
    figure.savefig(Path(__file__).with_suffix(".svg"), bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
