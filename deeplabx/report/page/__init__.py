"""The one HTML kit: every page that a command writes is made with it.

A page is a title and blocks (`blocks.py`: Section, Text, Table, Bars, Histogram, Lines, Figure, Gallery, Beside,
Legend, Names, Card, Command, Details, Tiles), written as one file that needs nothing else and asks the network for nothing:

    write_page(folder / "stats.html", "camvid", [Section("Classes", [Table(["class", "pixels"], rows)])])

Every text is shown as text, whoever wrote it: `<`, quotes, control and bidirectional characters of a file's or a
class's name cannot become markup or reorder a line.
"""

from deeplabx.report.page.blocks import (
    Bars,
    Beside,
    Block,
    Card,
    Code,
    Command,
    Details,
    Figure,
    Gallery,
    Histogram,
    Legend,
    Lines,
    Names,
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
    "Code",
    "Command",
    "Details",
    "Figure",
    "Gallery",
    "Histogram",
    "Legend",
    "Lines",
    "Names",
    "Section",
    "Share",
    "Swatch",
    "Table",
    "Text",
    "Tiles",
    "page_text",
    "write_page",
]
