"""Cutout (1708.04552): a square of the crop is hidden."""

from typing import NamedTuple

import numpy as np


class Hole(NamedTuple):
    """Rows and columns of the crop, the ends not included."""

    top: int
    bottom: int
    left: int
    right: int

    def cut(
        self, image: np.ndarray, label: np.ndarray, *, pad_pixel: tuple[int, ...], ignore_index: int
    ) -> None:
        """Fill the hole, in place: the image with the pad pixel, the label with the ignore index.

        The class of a hidden pixel cannot be seen, and often not be inferred: a whole object may be in the
        hole. With its label, the model would be trained to guess. What is around the hole keeps its labels:
        it must be classified with less context, which is what cutout is for.
        """
        place = np.s_[self.top : self.bottom, self.left : self.right]
        image[place], label[place] = pad_pixel, ignore_index

    @property
    def words(self) -> str:
        rows, columns = f"{self.top} to {self.bottom}", f"{self.left} to {self.right}"
        return f"cutout of rows {rows}, columns {columns}"


class Cutout:
    """With probability `p`: a square around a uniformly drawn pixel; at the edge of the crop it is cut off.

    size: side of the square as a share of the crop's.
    """

    name = "cutout"

    def __init__(self, p: float, *, size: float) -> None:
        self.p, self.size = p, size

    def draw(self, rng: np.random.Generator, *, crop_size: int) -> Hole | None:
        if rng.random() >= self.p:
            return None
        side = max(1, round(self.size * crop_size))
        top, left = (int(rng.integers(crop_size)) - side // 2 for _ in range(2))
        return Hole(max(0, top), min(crop_size, top + side), max(0, left), min(crop_size, left + side))
