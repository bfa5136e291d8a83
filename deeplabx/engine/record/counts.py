"""The confusion matrices of a split's images, each without its zeros."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Cells(NamedTuple):
    """The cells of one image's confusion matrix that are not 0. cell: label * C + prediction, ascending."""

    cell: np.ndarray  # int64
    pixels: np.ndarray  # int64


class ClassPixels(NamedTuple):
    """Pixels of each image and class, int64 N x C: right ones, those labelled so, those predicted so."""

    hits: np.ndarray
    labelled: np.ndarray
    predicted: np.ndarray


@dataclass(frozen=True)
class ImageCounts:
    """N confusion matrices C x C: `pixels[k]` of image `image[k]` are labelled `cell[k] // C` and predicted
    as `cell[k] % C`. Pixels whose label is ignored are not counted.
    """

    num_classes: int
    images: int
    image: np.ndarray  # int64, ascending, 0..images-1
    cell: np.ndarray  # int64, ascending for each image
    pixels: np.ndarray  # int64, above 0

    @classmethod
    def of(cls, matrices: Sequence[Cells], *, num_classes: int) -> "ImageCounts":
        lengths = [len(one.cell) for one in matrices]
        empty = np.zeros(0, np.int64)
        return cls(
            num_classes=num_classes,
            images=len(matrices),
            image=np.repeat(np.arange(len(matrices), dtype=np.int64), lengths),
            cell=np.concatenate([empty, *(one.cell for one in matrices)]),
            pixels=np.concatenate([empty, *(one.pixels for one in matrices)]),
        )

    def confusion(self) -> np.ndarray:
        """The confusion matrix of the whole split, int64 C x C."""
        total = np.zeros(self.num_classes**2, np.int64)
        np.add.at(total, self.cell, self.pixels)
        return total.reshape(self.num_classes, self.num_classes)

    def class_pixels(self) -> ClassPixels:
        label, predicted = np.divmod(self.cell, self.num_classes)
        found = ClassPixels(*(np.zeros((self.images, self.num_classes), np.int64) for _ in range(3)))
        right = label == predicted
        np.add.at(found.hits, (self.image[right], label[right]), self.pixels[right])
        np.add.at(found.labelled, (self.image, label), self.pixels)
        np.add.at(found.predicted, (self.image, predicted), self.pixels)
        return found

    def miou_of_images(self) -> np.ndarray:
        """The mIoU of each image by itself, float64 N; nan where none of its pixels counts."""
        hits, labelled, predicted = self.class_pixels()
        union = labelled + predicted - hits
        seen = (union > 0).sum(axis=1)
        with np.errstate(invalid="ignore"):
            total = np.where(union > 0, hits / np.maximum(union, 1), 0.0).sum(axis=1)
            return np.where(seen > 0, total / np.maximum(seen, 1), np.nan)

    def pixels_of(self, label: int, predicted: int) -> np.ndarray:
        """Pixels of each image that are labelled `label` and predicted as `predicted`, int64 N."""
        found = np.zeros(self.images, np.int64)
        chosen = self.cell == label * self.num_classes + predicted
        np.add.at(found, self.image[chosen], self.pixels[chosen])
        return found
