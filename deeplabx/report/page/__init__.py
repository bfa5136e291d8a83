"""The one HTML kit: every page that a command writes is made with it.

A page is a title and blocks (`blocks.py`: Section, Text, Table, Bars, Histogram, Lines, Scatter, Intervals,
Heatmap, Figure, Gallery, Beside, Legend, Names, Card, Command, Details, Tiles), written as one file that
needs nothing else and asks the network for nothing:

    table = Table(["class", "pixels"], [[Swatch((128, 64, 128), "road"), 20_076_880]])
    write_page(folder / "stats.html", "camvid", [Section("Classes", [table])])

Every text is shown as text, whoever wrote it: `<`, quotes, control and bidirectional characters of a file's
or a class's name cannot become markup or reorder a line. Cells of tables are texts, numbers, paths, Swatch (a
colour), Share (a bar in percent), Fixed (a number of so many decimals) or Code.
"""

from deeplabx.report.page.blocks import (
    Bars,
    Beside,
    Block,
    Card,
    Cell,
    Code,
    Command,
    Details,
    Figure,
    Fixed,
    Gallery,
    Heatmap,
    Histogram,
    Intervals,
    Legend,
    Lines,
    Names,
    Point,
    Scatter,
    Section,
    Share,
    Swatch,
    Table,
    Text,
    Tiles,
)
from deeplabx.report.page.writing import page_text, write_page

__all__ = [
    "Bars",
    "Beside",
    "Block",
    "Card",
    "Cell",
    "Code",
    "Command",
    "Details",
    "Figure",
    "Fixed",
    "Gallery",
    "Heatmap",
    "Histogram",
    "Intervals",
    "Legend",
    "Lines",
    "Names",
    "Point",
    "Scatter",
    "Section",
    "Share",
    "Swatch",
    "Table",
    "Text",
    "Tiles",
    "page_text",
    "write_page",
]
