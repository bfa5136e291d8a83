"""Images of the evaluated split with their labels and predictions, as figures."""

from typing import NamedTuple

import cv2
import numpy as np

from deeplabx.dataset.contract import Palette
from deeplabx.errors import DataError
from deeplabx.report.label_overlay import fitted, label_overlay
from deeplabx.report.overlay import as_rgb
from deeplabx.report.page import Figure
from deeplabx.report.page.images import nearest
from deeplabx.report.run_page.facts import Facts

SIDE = 300  # pixels: longest side of a figure
SMALLEST = 48  # pixels: shortest side of a crop
AROUND = 1.5  # a crop's sides in those of what it shows
WRONG = (226, 35, 60)


class Example(NamedTuple):
    """An image uint8 H x W x C, its label and its predicted ids, H x W each. The prediction is kept at most
    512 pixels long; here it is as large as the label.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    predicted: np.ndarray


class Examples:
    """Reads the images that figures need, each once. Raises a DeeplabxError where one cannot be read, or is
    not the one that was evaluated.
    """

    def __init__(self, facts: Facts) -> None:
        assert facts.record is not None, "without a record there are no examples"
        self.record, self.samples, self.predictions = facts.record, facts.samples, facts.predictions
        kept = set() if facts.predictions is None else facts.predictions.indices()
        self.has_prediction = np.isin(self.record.indices, sorted(kept))
        self.found: dict[int, Example] = {}

    def at(self, image: int) -> Example:
        """Of the image at this position of the record."""
        if image not in self.found:
            self.found[image] = self.read(image)
        return self.found[image]

    def read(self, image: int) -> Example:
        assert self.samples is not None, "no image can be read"
        assert self.predictions is not None, "no prediction was kept"
        index, name = int(self.record.indices[image]), self.record.names[image]
        size = tuple(self.record.sizes[image].tolist())
        if index >= len(self.samples):
            raise DataError(f"{name} is not in the split any more, which has {len(self.samples)} images")
        sample = self.samples[index]
        if sample.label.shape != size:
            raise DataError(
                f"{name} was {size[1]} x {size[0]} pixels, and is {sample.label.shape[1]} x "
                f"{sample.label.shape[0]} now"
            )
        ids = self.predictions.ids(index)
        assert ids is not None, "it is asked for images with a prediction only"
        return Example(name, sample.image, sample.label, nearest(ids, height=size[0], width=size[1]))


def crop_around(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns around the largest connected part of a mask H x W, which has some pixels."""
    _, _, parts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    largest = 1 + int(parts[1:, cv2.CC_STAT_AREA].argmax())
    left, top, width, height = (int(value) for value in parts[largest, :4])
    side = max(SMALLEST, round(AROUND * max(width, height)))
    rows = within(top + height / 2, side, mask.shape[0])
    columns = within(left + width / 2, side, mask.shape[1])
    return rows, columns


def within(centre: float, side: int, most: int) -> slice:
    """`side` pixels around a centre, moved into 0..most."""
    side = min(side, most)
    start = min(max(0, round(centre - side / 2)), most - side)
    return slice(start, start + side)


def cropped(example: Example, place: tuple[slice, slice]) -> Example:
    return example._replace(
        image=example.image[place], label=example.label[place], predicted=example.predicted[place]
    )


def figures(
    example: Example, palette: Palette, *, ignore_index: int, captions: tuple[str, str, str], side: int = SIDE
) -> list[Figure]:
    """Image, label and prediction, side by side."""
    overlays = [
        label_overlay(example.image, ids, palette, ignore_index=ignore_index, side=side)
        for ids in (example.label, example.predicted)
    ]
    shown = [fitted(as_rgb(example.image), side=side), *overlays]
    return [
        Figure(image, caption, alt=f"{example.name}: {caption}", most=side)
        for image, caption in zip(shown, captions, strict=True)
    ]


def error_figure(example: Example, *, ignore_index: int, side: int = SIDE) -> Figure:
    """Where the prediction is wrong: red, over the image in grey; ignored pixels are dark."""
    image = fitted(as_rgb(example.image), side=side)
    label, predicted = (
        fitted(ids.astype(np.int32), side=side, exact=True) for ids in (example.label, example.predicted)
    )
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    shown = np.repeat((grey // 2 + 100)[..., None], 3, axis=2).astype(np.uint8)
    void, wrong = label == ignore_index, label != predicted
    shown[void] = shown[void] // 3
    shown[wrong & ~void] = WRONG
    return Figure(shown, "errors", alt=f"{example.name}: errors in red", most=side)
