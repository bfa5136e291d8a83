"""Samples before and after augmentation as one PNG: equal tiles with titles, and a legend."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from deeplabx.dataset.writing import place_for
from deeplabx.engine.durable import arriving_file
from deeplabx.errors import printable
from deeplabx.report.label_overlay import DARK, PERIOD, STRIPE
from deeplabx.report.lettering import Font, cut, font_of, wrapped
from deeplabx.report.page.blocks import Swatch

SIDE = 320  # pixels of each panel
GAP, MARGIN = 12, 28
COLUMNS = 2  # tiles in a row, each of two panels
TITLE, LINE = 17, 24  # height of letters and of a line
NOTES = 2  # lines of them below a tile; the page has all
WHITE, BLACK, GREY, FRAME = (255, 255, 255), (25, 28, 33), (95, 102, 112), (235, 237, 240)


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
    entries = legend_places(legend, font, width=width - 2 * MARGIN)
    rows = -(-len(tiles) // across)
    top = MARGIN + 2 * LINE
    height = top + rows * tall + (entries[-1][1] + 2 * LINE if entries else 0) + MARGIN // 2
    sheet = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 4), cut(title, large, width - 2 * MARGIN), BLACK, large)
    for number, tile in enumerate(tiles):
        left = MARGIN + number % across * (wide + MARGIN)
        draw_tile(sheet, draw, tile, font, left=left, top=top + number // across * tall)
    for swatch, (x, y) in zip(legend, entries, strict=True):
        draw_swatch(draw, swatch, font, left=MARGIN + x, top=top + rows * tall + y)
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
        draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), FRAME)
        height, width = panel.shape[:2]
        sheet.paste(Image.fromarray(panel), (x + (SIDE - width) // 2, y + (SIDE - height) // 2))
    for number, words in enumerate(wrapped(", ".join(tile.notes), font, wide, most=NOTES)):
        draw.text((left, top + LINE + SIDE + 6 + number * LINE), words, GREY, font)


# --- legend -------------------------------------------------------------------------------------------------


def legend_places(legend: Sequence[Swatch], font: Font, *, width: int) -> list[tuple[int, int]]:
    """Where each entry stands, in lines of at most `width` pixels."""
    places, x, y = [], 0, 0
    for swatch in legend:
        wide = LINE + 6 + round(font.getlength(printable(swatch.words))) + 24
        if x and x + wide > width:
            x, y = 0, y + LINE + 6
        places.append((x, y))
        x += wide
    return places


def draw_swatch(draw: ImageDraw.ImageDraw, swatch: Swatch, font: Font, *, left: int, top: int) -> None:
    box = (left, top, left + 19, top + 19)
    draw.rectangle(box, swatch.colour, GREY)
    if swatch.hatched:
        for x in range(1, 19):
            for y in range(1, 19):
                if (x + y) % PERIOD < STRIPE:
                    draw.point((left + x, top + y), DARK)
    draw.text((left + LINE + 4, top - 1), printable(swatch.words), BLACK, font)
