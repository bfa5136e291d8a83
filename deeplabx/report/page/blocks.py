"""What a page is made of. Blocks are plain data; `writing.py` makes HTML of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

Colour: TypeAlias = tuple[int, int, int]  # red, green, blue in 0..255
LEVELS = ("error", "warning", "note", "good")


# --- cells --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Swatch:
    """A colour, with words beside it. `hatched`: as void is drawn."""

    colour: Colour
    words: str = ""
    hatched: bool = False


@dataclass(frozen=True)
class Share:
    """A part of a whole, 0..1, shown in percent with a bar."""

    fraction: float


@dataclass(frozen=True)
class Code:
    """Text in the font of code, such as the path of a file."""

    words: str


@dataclass(frozen=True)
class Fixed:
    """A number with the same number of decimals in each row; not a finite one is a dash."""

    value: float
    decimals: int = 4


# Numbers are right-aligned: int with thousands separators, float with four digits. None is a dash.
Cell: TypeAlias = str | int | float | Path | Swatch | Share | Code | Fixed | None


# --- blocks -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """Paragraphs, separated by empty lines."""

    words: str
    quiet: bool = False  # smaller and paler, for what explains


@dataclass(frozen=True)
class Tiles:
    """The few numbers that matter most, large. A level gives its colour."""

    tiles: Sequence[tuple[str, Cell]]  # what it is, and its value
    levels: Mapping[str, str] | None = None  # by what it is


@dataclass(frozen=True)
class Table:
    """Rows of cells, sortable by each column. A column is right-aligned where all its cells are numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True)
class Bars:
    """A horizontal bar for each of some names. colours: of the bars; None: one colour.

    texts: what stands behind each bar; None: its value.
    """

    title: str
    names: Sequence[str]
    values: Sequence[float]  # finite, at least 0
    colours: Sequence[Colour] | None = None
    texts: Sequence[str] | None = None
    axis: str = ""  # what the values are, with their unit


@dataclass(frozen=True)
class Histogram:
    """How many values fall between each two consecutive edges."""

    title: str
    edges: Sequence[float]  # ascending, one more than counts
    counts: Sequence[int]
    axis: str = ""  # what the values are
    counted: str = "images"  # what is counted


@dataclass(frozen=True)
class Lines:
    """Curves over one horizontal axis; a value that is not finite makes a gap.

    behind: names of curves that are drawn thin and pale behind the others, such as values before they are
    smoothed, or a line to compare with. dots: whether each point has a dot.
    """

    title: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]  # x and y, by the name of the curve
    x_axis: str = ""
    y_axis: str = ""
    behind: Sequence[str] = ()
    dots: bool = False


@dataclass(frozen=True)
class Heatmap:
    """A table of shares as colours, such as a confusion matrix. Its diagonal, where names of rows and columns
    are the same, has a colour of its own.

    values: rows x columns in 0..1; one that is not finite is left empty. x_axis, y_axis: what columns and
    rows are. Below it, the same numbers can be opened as a table.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    x_axis: str = ""
    y_axis: str = ""


@dataclass(frozen=True)
class Point:
    """A point of a Scatter. low, high: ends of its vertical error bar; None: it has none."""

    name: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Scatter:
    """Named points, and the Pareto front: those that no other one is as good as in both and better in one.

    Above is better. less: whether a smaller x is better. All values are finite; x of a logarithmic axis is
    above 0.
    """

    title: str
    points: Sequence[Point]
    x_axis: str = ""
    y_axis: str = ""
    less: bool = True
    logarithmic: bool = False


@dataclass(frozen=True)
class Intervals:
    """Values with their intervals, one below the other, on an axis that shows 0. None: no interval."""

    title: str
    names: Sequence[str]
    values: Sequence[float]
    ends: Sequence[tuple[float, float] | None]
    axis: str = ""


@dataclass(frozen=True)
class Figure:
    """An image with its caption.

    image: uint8 H x W x 3, or H x W of greys. exact: of a mask, whose pixels are neither blended nor
    compressed with loss. most: longest side in pixels; a larger image is shrunk.
    """

    image: np.ndarray
    caption: str
    alt: str = ""  # for those who cannot see it; the caption where it is empty
    exact: bool = False
    most: int = 640


@dataclass(frozen=True)
class Gallery:
    """Figures side by side, as many as the width has room for. columns: 3 or 4 for as many in each row,
    however narrow the page is (of 4, two on a phone); 0: as many as there is room for.
    """

    figures: Sequence[Figure]
    caption: str = ""
    columns: int = 0

    def __post_init__(self) -> None:
        if self.columns not in (0, 3, 4):
            raise ValueError(f"columns={self.columns} is none of 0, 3, 4")


@dataclass(frozen=True)
class Beside:
    """Blocks beside one another where there is room, such as two charts."""

    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Legend:
    """What colours mean."""

    swatches: Sequence[Swatch]
    title: str = ""


@dataclass(frozen=True)
class Names:
    """A list of names or paths. Beyond `first` of them, the rest is folded behind a line that counts them."""

    names: Sequence[str]
    first: int = 5


@dataclass(frozen=True)
class Command:
    """A line for the shell or for a config, with a button that copies it."""

    line: str
    words: str = ""  # what it does


@dataclass(frozen=True)
class Details:
    """Blocks behind a line that opens them."""

    summary: str
    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Card:
    """Blocks in a frame with a badge. level: error, warning, note or good."""

    level: str
    title: str
    blocks: Sequence["Block"] = ()

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"level {self.level!r} is not one of {', '.join(LEVELS)}")


@dataclass(frozen=True)
class Section:
    """Blocks below a heading, which the table of contents lists."""

    title: str
    blocks: Sequence["Block"]


Block: TypeAlias = (
    Text
    | Tiles
    | Table
    | Bars
    | Histogram
    | Lines
    | Scatter
    | Intervals
    | Heatmap
    | Figure
    | Gallery
    | Beside
    | Legend
    | Names
    | Command
    | Details
    | Card
    | Section
)
