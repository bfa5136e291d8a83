"""The page and the contact sheet of augmented samples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplabx.dataset.contract import Palette
from deeplabx.report.contact_sheet import SIDE, Tile, write_contact_sheet
from deeplabx.report.label_overlay import VOID, label_overlay
from deeplabx.report.page import Beside, Block, Figure, Gallery, Legend, Section, Swatch, Text, write_page

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
class Rendered:
    """A preview as it is shown: small, however large the images of the data set are."""

    section: Section
    tile: Tile
    ids: frozenset[int]  # in its labels


@dataclass(frozen=True)
class Colours:
    """Of the classes of a data set."""

    classes: Sequence[str]
    palette: Palette
    ignore_index: int

    def over(self, image: np.ndarray, label: np.ndarray, *, side: int) -> np.ndarray:
        return label_overlay(image, label, self.palette, ignore_index=self.ignore_index, side=side)

    def legend(self, ids: Iterable[int]) -> list[Swatch]:
        """What the colours of these ids mean, and void."""
        there = sorted(set(ids) - {self.ignore_index})
        swatches = [Swatch(self.palette[one], self.classes[one]) for one in there]
        return [*swatches, Swatch(VOID, "void", hatched=True)]


def rendered(one: Preview, colours: Colours) -> Rendered:
    before, after = size_of(one.label), size_of(one.crop_label)
    figures = [
        Figure(colours.over(image, label, side=SHOWN), words, most=SHOWN)
        for image, label, words in (
            (one.image, one.label, f"as stored, {before}"),
            (one.crop, one.crop_label, f"as trained on, {after}"),
        )
    ]
    drawn: list[Block] = [Text("; ".join(one.drawn), quiet=True)] if one.drawn else []
    tile = Tile(
        f"{one.name}  {before} → {after}",
        colours.over(one.image, one.label, side=SIDE),
        colours.over(one.crop, one.crop_label, side=SIDE),
        one.drawn,
    )
    ids = frozenset(int(value) for label in (one.label, one.crop_label) for value in np.unique(label))
    return Rendered(Section(one.name, [*drawn, Gallery(figures)]), tile, ids)


def write_preview(
    folder: Path, title: str, samples: Sequence[Rendered], colours: Colours, *, words: str
) -> None:
    """Write preview.html and preview.png. words: what is shown."""
    legend = colours.legend(value for one in samples for value in one.ids)
    write_contact_sheet(folder / "preview.png", title, [one.tile for one in samples], legend)
    top: list[Block] = [Text(words), Legend(legend, "Classes in these images")]
    shown = Section("Samples", [*top, Beside([one.section for one in samples])])
    write_page(folder / "preview.html", title, [shown])


def size_of(label: np.ndarray) -> str:
    """Width x height, as sizes of images are stated."""
    return f"{label.shape[1]} x {label.shape[0]}"
