"""What sheets of images have in common: colours, cells, and a legend with names in any script."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from deeplabx.report.label_overlay import stripes
from deeplabx.report.lettering import Font

WHITE, BLACK, GREY, FRAME = (255, 255, 255), (25, 28, 33), (95, 102, 112), (235, 237, 240)
HATCH = (150, 155, 162)  # of the stripes that void has
SWATCH, BESIDE, BETWEEN = 18, 7, 20  # pixels: a colour's side, before its name, and after it
LINE = 26  # height of a line of the legend


class Entry(NamedTuple):
    """A name of the legend, its font and its colour; None: hatched, as void is."""

    words: str
    font: Font
    colour: tuple[int, int, int] | None


def paste_centred(
    sheet: Image.Image, image: np.ndarray, *, left: int, top: int, width: int, height: int
) -> None:
    """An image, uint8 RGB, in the middle of a cell that is at least as large."""
    ImageDraw.Draw(sheet).rectangle((left, top, left + width - 1, top + height - 1), FRAME)
    tall, wide = image.shape[:2]
    sheet.paste(Image.fromarray(image), (left + (width - wide) // 2, top + (height - tall) // 2))


def hatched(shape: Sequence[int]) -> np.ndarray:
    """White with grey diagonal stripes, uint8 RGB H x W x 3."""
    return np.where(stripes(shape)[..., None], np.array(HATCH, np.uint8), np.array(WHITE, np.uint8))


def legend_places(entries: Sequence[Entry], *, width: int) -> list[tuple[int, int]]:
    """Where each entry stands in lines of at most `width` pixels: x and y from the corner of the legend."""
    places, x, y = [], 0, 0
    for entry in entries:
        wide = SWATCH + BESIDE + round(entry.font.getlength(entry.words)) + BETWEEN
        if x and x + wide > width:
            x, y = 0, y + LINE
        places.append((x, y))
        x += wide
    return places


def legend_height(places: Sequence[tuple[int, int]]) -> int:
    return places[-1][1] + LINE if places else 0


def draw_legend(
    sheet: Image.Image, entries: Sequence[Entry], places: Sequence[tuple[int, int]], *, left: int, top: int
) -> None:
    draw = ImageDraw.Draw(sheet)
    for (words, font, colour), (across, down) in zip(entries, places, strict=True):
        x, y = left + across, top + down
        if colour is None:
            sheet.paste(hatched_swatch(), (x, y + 2))
        draw.rectangle((x, y + 2, x + SWATCH, y + 2 + SWATCH), colour, GREY)
        draw.text((x + SWATCH + BESIDE, y), words, BLACK, font)


@functools.cache
def hatched_swatch() -> Image.Image:
    return Image.fromarray(hatched((SWATCH, SWATCH)))
