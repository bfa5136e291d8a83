"""Samples of a run as one image: rows of image, label, prediction, overlay and errors, and a legend."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from deeplabx.report.label_overlay import PERIOD, STRIPE, fitted
from deeplabx.report.lettering import Font, cut, font_of, legible
from deeplabx.report.overlay import Palette, as_rgb, colourised, overlay

SIDE = 292  # pixels of the longest side of an image in its cell; a smaller one is enlarged by a whole factor
GAP, MARGIN = 10, 16
LETTERS, LINE = 15, 23  # height of letters and of a line
SWATCH, LONGEST = 15, 260  # pixels of a colour's side and of a class's name in the legend
WHITE, BLACK, GREY, FRAME = (255, 255, 255), (25, 28, 33), (95, 102, 112), (235, 237, 240)
HATCH = (150, 155, 162)  # of the stripes that void has
VOID = (246, 247, 248)  # in the error map: lighter than what is right
COLUMNS = ("image", "label", "prediction", "overlay", "errors: wrong pixels as predicted")


@dataclass(frozen=True)
class Row:
    """A sample as it is shown: uint8 RGB, and ids of its pixels of the same height and width.

    iou: the mIoU of this image alone; None where nothing was predicted or labelled.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    predicted: np.ndarray | None = None
    iou: float | None = None

    @classmethod
    def of(
        cls,
        name: str,
        image: np.ndarray,
        label: np.ndarray,
        predicted: np.ndarray | None = None,
        iou: float | None = None,
    ) -> "Row":
        """A sample of any size and any number of channels, shrunk or enlarged to the size of its cell."""
        small = None if predicted is None else fitted(predicted, side=SIDE, exact=True)
        return cls(name, fitted(as_rgb(image), side=SIDE), fitted(label, side=SIDE, exact=True), small, iou)

    @property
    def words(self) -> str:
        return self.name if self.iou is None else f"{self.name}   mIoU {self.iou:.3f}"


def sample_sheet(
    rows: Sequence[Row], *, classes: Sequence[str], palette: Palette, ignore_index: int
) -> np.ndarray:
    """The rows as one image, uint8 RGB. All cells have the size of the largest image; columns of what none of
    the samples has are left out.
    """
    font = font_of(LETTERS)
    columns = COLUMNS if any(row.predicted is not None for row in rows) else COLUMNS[:2]
    height, width = (max(row.image.shape[axis] for row in rows) for axis in (0, 1))
    across = len(columns) * (width + GAP) - GAP
    names = shown_classes(rows, classes, palette, ignore_index)
    legend = placed(names, width=across)
    top, step = MARGIN + LINE, LINE + height + GAP
    below = top + len(rows) * step + GAP
    lines = legend[-1][1] + 1 if legend else 0
    sheet = Image.new("RGB", (across + 2 * MARGIN, below + lines * (LINE + 2) + MARGIN), WHITE)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(columns):
        place = (MARGIN + column * (width + GAP), MARGIN - 2)
        draw.text(place, title_in(title, font, width), BLACK, font)
    for number, row in enumerate(rows):
        y = top + number * step
        draw.text((MARGIN, y + 1), cut(row.words, font, across), GREY, font)
        for column, cell in enumerate(cells(row, palette, ignore_index)):
            x = MARGIN + column * (width + GAP)
            draw.rectangle((x, y + LINE, x + width - 1, y + LINE + height - 1), FRAME)
            tall, wide = cell.shape[:2]
            place = (x + (width - wide) // 2, y + LINE + (height - tall) // 2)
            sheet.paste(Image.fromarray(cell), place)
    for (text, own, colour), (x, line) in zip(names, legend, strict=True):
        draw_entry(sheet, draw, text, own, colour, place=(MARGIN + x, below + line * (LINE + 2)))
    return np.asarray(sheet)


def title_in(title: str, font: Font, width: int) -> str:
    """A title, or what is before its colon where the whole is wider than the column."""
    short = title.partition(":")[0]
    if font.getlength(title) > width:
        title = short if font.getlength(short) <= width else short.split()[-1]
    return title


# --- cells --------------------------------------------------------------------------------------------------


def cells(row: Row, palette: Palette, ignore_index: int) -> list[np.ndarray]:
    """What stands in the columns of a row."""
    void = row.label == ignore_index
    label = colourised(row.label, palette)
    label[void] = hatched(row.label.shape)[void]
    if row.predicted is None:
        return [row.image, label]
    return [
        row.image,
        label,
        colourised(row.predicted, palette),
        overlay(row.image, row.predicted, palette),
        error_map(row.image, row.label, row.predicted, palette, ignore_index=ignore_index),
    ]


def hatched(shape: Sequence[int], period: int = PERIOD) -> np.ndarray:
    """White with diagonal stripes, uint8 RGB H x W x 3."""
    down, across = np.ogrid[: shape[0], : shape[1]]
    stripes = ((down + across) % period < STRIPE)[..., None]
    return np.where(stripes, np.array(HATCH, np.uint8), np.array(WHITE, np.uint8))


def error_map(
    image: np.ndarray, label: np.ndarray, predicted: np.ndarray, palette: Palette, *, ignore_index: int
) -> np.ndarray:
    """uint8 RGB H x W x 3: a wrong pixel in the colour of the class that was predicted, a right one as the
    image in pale grey, void in one light grey.
    """
    grey = 172 + image.mean(axis=2, dtype=np.float32) * 0.22
    shown = grey.astype(np.uint8)[..., None].repeat(3, axis=2)
    wrong = predicted != label
    shown[wrong] = colourised(predicted[wrong][None], palette)[0]
    shown[label == ignore_index] = VOID
    return shown


# --- legend -------------------------------------------------------------------------------------------------

Entry = tuple[str, Font, tuple[int, int, int] | None]  # None: void, which is hatched


def shown_classes(
    rows: Sequence[Row], classes: Sequence[str], palette: Palette, ignore_index: int
) -> list[Entry]:
    """Name, font and colour of each class that appears in a label or prediction, and of void."""
    present: set[int] = set()
    for row in rows:
        for ids in (row.label, row.predicted):
            present.update(() if ids is None else np.unique(ids).tolist())
    found: list[Entry] = [
        (*legible(classes[index], index, LETTERS, width=LONGEST), palette[index])
        for index in sorted(present)
        if index < len(classes)
    ]
    if ignore_index in present:
        found.append(("void: not counted", font_of(LETTERS), None))
    return found


def placed(names: Sequence[Entry], *, width: int) -> list[tuple[int, int]]:
    """Where each entry stands: pixels from the left, and the number of its line."""
    places, x, line = [], 0, 0
    for text, font, _ in names:
        wide = SWATCH + 7 + round(font.getlength(text)) + 18
        if x and x + wide > width:
            x, line = 0, line + 1
        places.append((x, line))
        x += wide
    return places


def draw_entry(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    text: str,
    font: Font,
    colour: tuple[int, int, int] | None,
    *,
    place: tuple[int, int],
) -> None:
    x, y = place
    if colour is None:
        sheet.paste(void_swatch(), (x, y + 2))
    draw.rectangle((x, y + 2, x + SWATCH, y + 2 + SWATCH), colour, GREY)
    draw.text((x + SWATCH + 7, y), text, BLACK, font)


@functools.cache
def void_swatch() -> Image.Image:
    return Image.fromarray(hatched((SWATCH, SWATCH)))
