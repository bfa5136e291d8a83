"""A page as one HTML file."""

import base64
import hashlib
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import deeplabx
from deeplabx.dataset.writing import place_for
from deeplabx.engine.durable import replace
from deeplabx.report.page.blocks import (
    Bars,
    Block,
    Cell,
    Code,
    Figure,
    Fixed,
    Heatmap,
    Histogram,
    Intervals,
    Lines,
    Scatter,
    Section,
    Share,
    Swatch,
    Table,
)
from deeplabx.report.page.charts import (
    Drawing,
    bars,
    heatmap,
    hex_colour,
    histogram,
    intervals,
    lines,
    scatter,
)
from deeplabx.report.page.images import data_uri, shrunk

FOLDER = Path(__file__).parent
KEPT = "\n\u200c\u200d"  # line breaks, and the joiners that Persian and Indic words have
SMALL = 320  # pixels: a figure with a longer side than this is shown at its own size, a smaller one enlarged


def write_page(path: Path, title: str, blocks: Sequence[Block], *, words: str = "") -> None:
    """Write a page in place of an older one. words: a line below the title.

    Raises DataError where `path` is a link or a folder.
    """
    replace(place_for(path), page_text(title, blocks, words=words))


def page_text(title: str, blocks: Sequence[Block], *, words: str = "") -> str:
    """The whole HTML file."""
    css, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    numbered = Numbered(blocks)
    return (
        environment()
        .get_template("page.html")
        .render(
            title=title,
            words=words,
            blocks=blocks,
            contents=numbered.contents,
            id_of=numbered.id_of,
            css=css,
            script=script,
            csp=policy(css, script),
            version=deeplabx.__version__,
        )
    )


def policy(css: str, script: str) -> str:
    """A content security policy that allows this style, this script, inline images, and nothing else."""
    style, code = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (css, script)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{code}'; "
        "base-uri 'none'; form-action 'none'"
    )


class Numbered:
    """The sections of a page, with ids that no text of anyone can spoil."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.contents: list[tuple[str, str]] = []
        self.ids: dict[int, str] = {}
        for block in blocks:
            if isinstance(block, Section):
                self.ids[id(block)] = f"part-{len(self.ids) + 1}"
                self.contents.append((self.ids[id(block)], block.title))

    def id_of(self, section: Section) -> str:
        return self.ids.get(id(section), "")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates. Everything that they print is escaped, and shown as `visible` says."""
    found = Environment(
        loader=FileSystemLoader(FOLDER, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    found.globals.update(
        kind_of=lambda block: type(block).__name__,
        cell_of=cell_of,
        is_number=is_number,
        right_aligned=right_aligned,
        drawing=drawing,
        inlined=inlined,
        as_table=as_table,
        hex_colour=hex_colour,
    )
    return found


def visible(value: Any) -> Any:
    """A text without characters that cannot be seen: control characters, those that turn the direction of a
    line, halves of surrogates. They are shown as escapes.
    """
    if type(value) is not str or value.isprintable():  # a template's own parts are Markup
        return value
    return "".join(one if one.isprintable() or one in KEPT else repr(one)[1:-1] for one in value)


# --- cells --------------------------------------------------------------------------------------------------


def is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float | Share | Fixed) and not isinstance(cell, bool)


def right_aligned(table: Table) -> list[bool]:
    """Of each column, whether all its cells are numbers, apart from empty ones."""
    found = []
    for number in range(len(table.columns)):
        cells = [row[number] for row in table.rows if row[number] is not None]
        found.append(bool(cells) and all(is_number(cell) for cell in cells))
    return found


def cell_of(cell: Cell) -> dict[str, Any]:
    """What a template needs of a cell: its words, by what it is sorted, and how it is drawn."""
    if cell is None:
        return {"words": "–", "key": "", "kind": "plain"}
    if isinstance(cell, Share):
        return {
            "words": percent(cell.fraction),
            "key": repr(float(cell.fraction)),
            "kind": "share",
            "of": cell,
        }
    if isinstance(cell, Fixed):
        if not math.isfinite(cell.value):
            return cell_of(None)
        return {
            "words": f"{cell.value:,.{cell.decimals}f}",
            "key": repr(float(cell.value)),
            "kind": "plain",
        }
    if isinstance(cell, Swatch):
        return {"words": cell.words, "key": cell.words, "kind": "swatch", "of": cell}
    if isinstance(cell, Code | Path):
        words = cell.words if isinstance(cell, Code) else str(cell)
        return {"words": words, "key": words, "kind": "code"}
    if isinstance(cell, bool):
        return {"words": "yes" if cell else "no", "key": str(int(cell)), "kind": "plain"}
    if isinstance(cell, int):
        return {"words": f"{cell:,}", "key": str(cell), "kind": "plain"}
    if isinstance(cell, float):
        return {"words": f"{cell:.4g}", "key": repr(float(cell)), "kind": "plain"}
    return {"words": cell, "key": cell, "kind": "plain"}


def percent(fraction: float) -> str:
    """A share in percent. What is not zero is not shown as zero."""
    if fraction < 0.0001:
        return "<0.01 %" if fraction > 0 else "0 %"
    return f"{100 * fraction:.2f} %" if fraction < 0.01 else f"{100 * fraction:.1f} %"


# --- drawings -----------------------------------------------------------------------------------------------


def drawing(block: Bars | Histogram | Lines | Scatter | Heatmap | Intervals) -> Drawing:
    makers: dict[type, Callable[[Any], Drawing]] = {
        Bars: bars,
        Histogram: histogram,
        Lines: lines,
        Scatter: scatter,
        Intervals: intervals,
        Heatmap: heatmap,
    }
    return makers[type(block)](block)


def as_table(block: Heatmap) -> Table:
    """The numbers of a heatmap, in percent."""
    rows: list[list[Cell]] = [
        [name, *(Fixed(100 * value, 1) for value in values)]
        for name, values in zip(block.rows, block.values, strict=True)
    ]
    return Table([block.y_axis, *block.columns], rows, caption=f"{block.title}, in percent")


def inlined(figure: Figure) -> dict[str, Any]:
    """What a template needs of an image."""
    image = shrunk(figure.image, most=figure.most, exact=figure.exact)
    height, width = image.shape[:2]
    return {
        "src": data_uri(image, exact=figure.exact),
        "width": width,
        "height": height,
        "kind": "exact" if figure.exact or max(height, width) < SMALL else "smooth",
        "alt": figure.alt or figure.caption,
    }
