"""What a page is made of: sections of tables, charts, strips of frames and text.

All text is plain: names of files and classes are escaped when the page is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from bokeh.models.ui import UIElement

from ar_net_jax.reporting.page.strips import Strip


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: that is shown.
        value: that the table is sorted by; the text where it is None.
        share: between 0 and 1, how strongly the cell is coloured; None for not at all.
        color: of a dot before the text, as CSS has it; empty for none.
    """

    text: str
    value: float | None = None
    share: float | None = None
    color: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: its name.
        hint: what it means, shown where the pointer rests.
        numeric: whether its cells stand to the right.
    """

    head: str
    hint: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table whose rows are sorted by a click on a column's head.

    Attributes:
        columns: from left to right.
        rows: a cell for each column.
        bold: numbers of rows that stand out.
        last: a row that stays below whatever the order; empty for none.
        note: below it.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    bold: frozenset[int] = frozenset()
    last: Sequence[Cell] = ()
    note: str = ""


@dataclass(frozen=True)
class Key:
    """An entry of a chart's key, which shows and hides what it stands for.

    Attributes:
        text: its name.
        color: as CSS has it.
        model: name of the Bokeh models that it shows and hides.
    """

    text: str
    color: str
    model: str


@dataclass(frozen=True)
class Chart:
    """A chart to point at.

    Attributes:
        model: of Bokeh; it fills the width of its place.
        height: in pixels.
        width: in pixels, that it does not go beyond; None for no bound.
        key: below it.
        title: above it.
        note: below all.
    """

    kind: ClassVar[str] = "chart"
    model: UIElement
    height: int
    width: int | None = None
    key: Sequence[Key] = ()
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Charts:
    """Charts side by side where there is room.

    Attributes:
        charts: from left to right.
        note: below them.
    """

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]
    note: str = ""


@dataclass(frozen=True)
class Strips:
    """Videos with what was decided about their frames.

    Attributes:
        videos: that are shown.
        total: of which they are.
    """

    kind: ClassVar[str] = "strips"
    videos: Sequence[Strip]
    total: int


@dataclass(frozen=True)
class Tiles:
    """Figures to be seen first.

    Attributes:
        tiles: of each its value and what it is.
    """

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Listing:
    """Text as it is, in a part that is opened by a click.

    Attributes:
        title: always seen.
        text: with its line breaks.
    """

    kind: ClassVar[str] = "listing"
    title: str
    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks in a part that is opened by a click.

    Attributes:
        title: always seen.
        blocks: within.
    """

    kind: ClassVar[str] = "fold"
    title: str
    blocks: Sequence["Block"]


Block = Table | Chart | Charts | Strips | Tiles | Listing | Fold


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading.

    Attributes:
        title: the heading.
        blocks: from top to bottom.
        text: below the heading.
    """

    title: str
    blocks: Sequence[Block]
    text: str = ""


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: of the page.
        text: below it, what the page is of.
        sections: from top to bottom.
        remark: set off, for a reader who might take the figures for more than they are.
        tiles: figures to be seen first; none where empty.
    """

    title: str
    text: str
    sections: Sequence[Section]
    remark: str = ""
    tiles: Tiles = field(default_factory=lambda: Tiles(()))
