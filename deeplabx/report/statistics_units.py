"""What a bootstrap draws: the images of a split, or groups of images that belong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from deeplabx.engine.record.counts import ClassPixels

FEWEST_GROUPS = 10  # a bootstrap over fewer says too little


@dataclass(frozen=True)
class Units:
    """of: the unit of each image, int64 N in 0..count-1; over: "images" or "groups"; words: which, why.

    alike: whether images of too few groups are drawn, so that intervals are too narrow.
    """

    of: np.ndarray
    count: int
    over: str
    words: str
    alike: bool = False

    @classmethod
    def chosen(cls, groups: Sequence[str] | None, *, images: int, split: str) -> "Units":
        """The groups, where images have some and there are enough of them, else the images."""
        singles = np.arange(images, dtype=np.int64)
        if groups is None:
            words = f"resampled over the {images:,} images of {split}, taken as independent of each other"
            return cls(singles, images, "images", words)
        names, of = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
        if len(names) == images:
            words = f"resampled over the {images:,} images of {split}, each a group of its own"
            return cls(singles, images, "images", words)
        if len(names) < FEWEST_GROUPS:
            plural = "group" if len(names) == 1 else "groups"
            words = (
                f"the {images:,} images of {split} belong to {len(names)} {plural}, such as a sequence: "
                "images of a group are alike, so the interval, resampled over images, is too narrow "
                f"(with {FEWEST_GROUPS} groups or more, whole groups are resampled)"
            )
            return cls(singles, images, "images", words, alike=True)
        words = (
            f"resampled over the {len(names):,} groups of the {images:,} images of {split}, because "
            "images of a group are alike"
        )
        return cls(of.astype(np.int64), len(names), "groups", words)


class Member(NamedTuple):
    """One evaluation, summed within units: float64 U x C each."""

    hits: np.ndarray
    labelled: np.ndarray
    union: np.ndarray

    @classmethod
    def of(cls, pixels: ClassPixels, units: Units) -> "Member":
        hits, labelled, predicted = (summed(values, units) for values in pixels)
        return cls(hits, labelled, labelled + predicted - hits)


def summed(pixels: np.ndarray, units: Units) -> np.ndarray:
    """Pixels N x C of images as float64 sums U x C of their units."""
    if units.over == "images":
        return pixels.astype(np.float64)
    found = np.zeros((units.count, pixels.shape[1]))
    np.add.at(found, units.of, pixels)
    return found
