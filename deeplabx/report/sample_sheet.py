"""Samples of a run as one image: rows of image, label, prediction, overlay and errors, and a legend."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from deeplabx.report.label_overlay import fitted
from deeplabx.report.lettering import Font, cut, font_of, legible
from deeplabx.report.overlay import Palette, as_rgb, colourised, overlay
from deeplabx.report.sheet import (
    BLACK,
    GREY,
    WHITE,
    Entry,
    draw_legend,
    hatched,
    legend_height,
    legend_places,
    paste_centred,
)

SIDE = 292  # pixels of the longest side of an image in its cell; a smaller one is enlarged by a whole factor
GAP, MARGIN = 10, 16
LETTERS, LINE = 15, 23  # height of letters and of a line
LONGEST = 260  # pixels of a class's name in the legend
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
    entries = shown_classes(rows, classes, palette, ignore_index)
    places = legend_places(entries, width=across)
    top, step = MARGIN + LINE, LINE + height + GAP
    below = top + len(rows) * step + GAP
    sheet = Image.new("RGB", (across + 2 * MARGIN, below + legend_height(places) + MARGIN), WHITE)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(columns):
        place = (MARGIN + column * (width + GAP), MARGIN - 2)
        draw.text(place, title_in(title, font, width), BLACK, font)
    for number, row in enumerate(rows):
        y = top + number * step
        draw.text((MARGIN, y + 1), cut(row.words, font, across), GREY, font)
        for column, cell in enumerate(cells(row, palette, ignore_index)):
            x = MARGIN + column * (width + GAP)
            paste_centred(sheet, cell, left=x, top=y + LINE, width=width, height=height)
    draw_legend(sheet, entries, places, left=MARGIN, top=below)
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


def shown_classes(
    rows: Sequence[Row], classes: Sequence[str], palette: Palette, ignore_index: int
) -> list[Entry]:
    """An entry for each class that appears in a label or prediction, and for void."""
    present: set[int] = set()
    for row in rows:
        for ids in (row.label, row.predicted):
            present.update(() if ids is None else np.unique(ids).tolist())
    found = [
        Entry(*legible(classes[index], index, LETTERS, width=LONGEST), palette[index])
        for index in sorted(present)
        if index < len(classes)
    ]
    if ignore_index in present:
        found.append(Entry("void: not counted", font_of(LETTERS), None))
    return found
