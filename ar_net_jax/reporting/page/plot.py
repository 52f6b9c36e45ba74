"""What all charts of a page share: their look, and what keeps names from being taken for more."""

from typing import Any

from bokeh.plotting import figure

PALETTE = (
    "#1f6fb4", "#e07b1f", "#2d9a4b", "#8b5bb8", "#8c6239", "#d45fa5", "#5f6f7f", "#a8a41c",
    "#17a2b0", "#e8a3a0", "#86bce8", "#f0b97a", "#93d08f", "#c3aadd",
)  # fmt: skip
"""Colors that are told apart side by side, as CSS has them."""

SOFT = "#5b6675"
"""The color of what stays in the background."""

_GRID = "#e9ecf0"


def empty_figure(**ranges: Any) -> figure:
    """An empty chart in the page's style; it zooms by dragging a box, and by no wheel."""
    plot = figure(
        sizing_mode="stretch_both",
        tools="box_zoom,reset,save",
        toolbar_location="right",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        **ranges,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.grid.grid_line_color = _GRID
    for axis in plot.axis:
        axis.axis_line_color = "#b9c1cb"
        axis.minor_tick_line_color = None
        axis.major_tick_line_color = "#b9c1cb"
        axis.major_label_text_color = axis.axis_label_text_color = SOFT
        axis.major_label_text_font_size = axis.axis_label_text_font_size = "12px"
        axis.axis_label_text_font_style = "normal"
    return plot


def named(title: str) -> str:
    """The name of what belongs to a method, which its entry of the key shows and hides."""
    return f"line:{title}"


def no_formula(text: str) -> str:
    r"""A text that Bokeh does not take for TeX, which it would look for on the network.

    Its signs are `$$`, `\[` and `\(`; an invisible joiner after each first one breaks them.
    """
    return text.replace("$", "$\u2060").replace("\\", "\\\u2060")
