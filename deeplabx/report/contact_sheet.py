"""Samples before and after augmentation as one PNG: equal tiles with titles, and a legend."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from deeplabx.dataset.writing import place_for
from deeplabx.engine.durable import arriving_file
from deeplabx.errors import printable
from deeplabx.report.lettering import Font, cut, cut_end, font_for, font_of, wrapped
from deeplabx.report.page.blocks import Swatch
from deeplabx.report.sheet import (
    BLACK,
    GREY,
    WHITE,
    Entry,
    draw_legend,
    legend_height,
    legend_places,
    paste_centred,
)

SIDE = 320  # pixels of each panel
GAP, MARGIN = 12, 28
COLUMNS = 2  # tiles in a row, each of two panels
TITLE, LINE = 17, 24  # height of letters and of a line
NOTES = 2  # lines of them below a tile; the page has all
LONGEST = 400  # pixels of a name in the legend


@dataclass(frozen=True)
class Tile:
    """A sample. original, augmented: uint8 RGB, at most SIDE x SIDE. notes: what the augmentation drew."""

    title: str
    original: np.ndarray
    augmented: np.ndarray
    notes: Sequence[str] = ()


def write_contact_sheet(path: Path, title: str, tiles: Sequence[Tile], legend: Sequence[Swatch]) -> None:
    """Write the sheet as a PNG in place of an older one."""
    with arriving_file(place_for(path)) as temporary:
        contact_sheet(title, tiles, legend).save(temporary, format="PNG")


def contact_sheet(title: str, tiles: Sequence[Tile], legend: Sequence[Swatch]) -> Image.Image:
    font, large = font_of(TITLE), font_of(TITLE + 7)
    notes = NOTES if any(tile.notes for tile in tiles) else 0
    wide, tall = 2 * SIDE + GAP, LINE + SIDE + notes * LINE + 2 * GAP
    across = min(COLUMNS, len(tiles))
    width = max(2 * MARGIN + across * wide + (across - 1) * MARGIN, 2 * MARGIN + 2 * SIDE + GAP)
    entries = [entry_of(swatch) for swatch in legend]
    places = legend_places(entries, width=width - 2 * MARGIN)
    rows = -(-len(tiles) // across)
    top = MARGIN + 2 * LINE
    height = top + rows * tall + (legend_height(places) + LINE if places else 0) + MARGIN // 2
    sheet = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 4), cut(title, large, width - 2 * MARGIN), BLACK, large)
    for number, tile in enumerate(tiles):
        left = MARGIN + number % across * (wide + MARGIN)
        draw_tile(sheet, draw, tile, font, left=left, top=top + number // across * tall)
    draw_legend(sheet, entries, places, left=MARGIN, top=top + rows * tall)
    return sheet


def draw_tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    tile: Tile,
    font: Font,
    *,
    left: int,
    top: int,
) -> None:
    wide = 2 * SIDE + GAP
    draw.text((left, top), cut(tile.title, font, wide), BLACK, font)
    for number, panel in enumerate((tile.original, tile.augmented)):
        x, y = left + number * (SIDE + GAP), top + LINE
        paste_centred(sheet, panel, left=x, top=y, width=SIDE, height=SIDE)
    for number, words in enumerate(wrapped(", ".join(tile.notes), font, wide, most=NOTES)):
        draw.text((left, top + LINE + SIDE + 6 + number * LINE), words, GREY, font)


def entry_of(swatch: Swatch) -> Entry:
    words = printable(swatch.words)
    font = font_for(words, TITLE) or font_of(TITLE)  # which has boxes for letters that no font has
    return Entry(cut_end(words, font, LONGEST), font, None if swatch.hatched else swatch.colour)
