"""A confusion matrix as an image: each row in shares of its class's pixels."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from deeplabx.report.lettering import Font, font_of, legible
from deeplabx.report.sheet import BLACK, GREY, WHITE

MOST_NUMBERS = 24  # classes whose cells hold numbers and whose names are written
SIDE, LEAST = 1000, 5  # pixels of the whole matrix where there are many classes, and of its smallest cell
NAME = 150  # pixels of the longest name
MARGIN, LETTERS = 14, 14
EMPTY = (228, 230, 234)  # of a class without labelled pixels
DARKEST = np.array([8, 48, 107], np.float32)  # of a share of 1
TITLE = "row: label, column: prediction, in % of the row's pixels"


def confusion_figure(counts: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """uint8 RGB. counts: C x C, rows = label, columns = prediction. Up to 24 classes have their names and
    numbers; of more, the numbers of every tenth class are written.
    """
    number = len(classes)
    named = number <= MOST_NUMBERS
    cell = 40 if named else max(LEAST, SIDE // number)
    shares, counted = normalized(counts)
    font, small = font_of(LETTERS), font_of(11)
    labels = [legible(name, index, LETTERS, width=NAME) for index, name in enumerate(classes) if named]
    room = round(max(own.getlength(text) for text, own in labels)) + 8 if named else 40
    left, top = MARGIN + room, MARGIN + 26 + room
    side = cell * number
    width = max(left + side + MARGIN, MARGIN * 2 + round(font.getlength(TITLE)))
    figure = Image.new("RGB", (width, top + side + MARGIN), WHITE)
    draw = ImageDraw.Draw(figure)
    draw.text((MARGIN, MARGIN - 4), TITLE, BLACK, font)
    colours = shaded(shares, counted).repeat(cell, axis=0).repeat(cell, axis=1)
    figure.paste(Image.fromarray(colours), (left, top))
    draw.rectangle((left - 1, top - 1, left + side, top + side), None, GREY)
    if named:
        for index, (text, own) in enumerate(labels):
            middle = cell * index + cell // 2
            draw.text((left - 6, top + middle), text, BLACK, own, anchor="rm")
            paste_upwards(figure, text, own, x=left + middle, bottom=top - 6)
        write_numbers(draw, shares, counted, small, left=left, top=top, cell=cell)
    else:
        for index in range(0, number, 10):
            middle = cell * index + cell // 2
            draw.text((left - 6, top + middle), str(index), BLACK, small, anchor="rm")
            draw.text((left + middle, top - 6), str(index), BLACK, small, anchor="mb")
    return np.asarray(figure)


def normalized(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row divided by its sum, float64; and which rows have a sum, C booleans."""
    sums = counts.sum(axis=1, dtype=np.float64)
    return counts / np.maximum(sums, 1)[:, None], sums > 0


def shaded(shares: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """uint8 C x C x 3: white to dark blue; by the root of the share, so that a confusion of 1 % is seen."""
    depth = np.sqrt(shares)[..., None].astype(np.float32)
    colours = np.rint(255 + (DARKEST - 255) * depth).astype(np.uint8)
    colours[~counted] = EMPTY
    return colours


def write_numbers(
    draw: ImageDraw.ImageDraw,
    shares: np.ndarray,
    counted: np.ndarray,
    font: Font,
    *,
    left: int,
    top: int,
    cell: int,
) -> None:
    """Percent in each cell that is not 0; a share that would be rounded to 0 or 100 but is not says so."""
    for row, column in np.argwhere((shares > 0) & counted[:, None]).tolist():
        share = shares[row, column]
        words = "<1" if share < 0.005 else ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"
        place = (left + column * cell + cell // 2, top + row * cell + cell // 2)
        draw.text(place, words, WHITE if share > 0.2 else BLACK, font, anchor="mm")


def paste_upwards(figure: Image.Image, text: str, font: Font, *, x: int, bottom: int) -> None:
    """Write a text from the bottom to the top, its middle at x."""
    tall = LETTERS + 6
    strip = Image.new("RGB", (max(1, round(font.getlength(text))), tall), WHITE)
    ImageDraw.Draw(strip).text((0, tall // 2), text, BLACK, font, anchor="lm")
    upright = strip.rotate(90, expand=True)
    figure.paste(upright, (x - tall // 2, bottom - upright.height))
