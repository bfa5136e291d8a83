"""The page and the contact sheet of augmented samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplabx.dataset.contract import Palette
from deeplabx.report.contact_sheet import SIDE, Tile, write_contact_sheet
from deeplabx.report.label_overlay import label_overlay, legend_of
from deeplabx.report.page import Beside, Block, Command, Figure, Gallery, Legend, Section, Text, write_page
from deeplabx.report.page.blocks import Swatch

SHOWN = 640  # pixels of an image on the page


@dataclass(frozen=True)
class Preview:
    """A sample as it is stored (image, label) and as training sees it (crop, crop_label); uint8 H x W x C and
    H x W of train ids. drawn: the random parameters, in words.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    crop: np.ndarray
    crop_label: np.ndarray
    drawn: Sequence[str] = ()


@dataclass(frozen=True)
class Colours:
    """Of the classes of a data set."""

    classes: Sequence[str]
    palette: Palette
    ignore_index: int

    def over(self, image: np.ndarray, label: np.ndarray, *, side: int) -> np.ndarray:
        return label_overlay(image, label, self.palette, ignore_index=self.ignore_index, side=side)

    def legend(self, samples: Sequence[Preview]) -> list[Swatch]:
        labels = [label for one in samples for label in (one.label, one.crop_label)]
        return legend_of(labels, self.classes, self.palette, ignore_index=self.ignore_index)


def write_preview(
    folder: Path, title: str, samples: Sequence[Preview], colours: Colours, *, words: str, command: str = ""
) -> None:
    """Write preview.html and preview.png. words: what is shown; command: one that makes the page again."""
    legend = colours.legend(samples)
    tiles = [
        Tile(
            f"{one.name}  {size_of(one.label)} → {size_of(one.crop_label)}",
            colours.over(one.image, one.label, side=SIDE),
            colours.over(one.crop, one.crop_label, side=SIDE),
            one.drawn,
        )
        for one in samples
    ]
    write_contact_sheet(folder / "preview.png", title, tiles, legend)
    top: list[Block] = [Text(words), Legend(legend, "Classes in these images")]
    if command:
        top.append(Command(command))
    shown = Section("Samples", [*top, Beside([sample_section(one, colours) for one in samples])])
    write_page(folder / "preview.html", title, [shown])


def sample_section(one: Preview, colours: Colours) -> Section:
    figures = [
        Figure(
            colours.over(one.image, one.label, side=SHOWN), f"as stored, {size_of(one.label)}", most=SHOWN
        ),
        Figure(
            colours.over(one.crop, one.crop_label, side=SHOWN),
            f"as trained on, {size_of(one.crop_label)}",
            most=SHOWN,
        ),
    ]
    drawn: list[Block] = [Text("; ".join(one.drawn), quiet=True)] if one.drawn else []
    return Section(one.name, [*drawn, Gallery(figures)])


def size_of(label: np.ndarray) -> str:
    """Width x height, as sizes of images are stated."""
    return f"{label.shape[1]} x {label.shape[0]}"
