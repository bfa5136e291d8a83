"""The interface of a data set."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

IGNORE_INDEX = 255
Colour = tuple[int, int, int]
Palette = list[Colour]


class Sample(NamedTuple):
    image: np.ndarray  # uint8 H x W x channels, RGB if there are 3
    label: np.ndarray  # uint8 H x W, train ids 0..C-1 and the ignore index


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel, of pixels in 0..255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class SegmentationSet(ABC):
    """One split. Train ids are 0..len(classes)-1; pixels of `ignore_index` are not counted.

    If the classes are fixed, `classes` and `palette` are class attributes.
    """

    classes: list[str]
    palette: Palette
    ignore_index: int = IGNORE_INDEX
    note: str = ""  # a caveat on results trained on this split
    left_out: Sequence[str] = ()  # what lies beside its files and is not used, in words
    channels: int = 3  # of an image: the input channels of the network
    statistics: Statistics | None = None  # of its images; None: those of the backbone's weights

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Raises DataError for a sample that cannot be read."""

    def label(self, index: int) -> np.ndarray:
        """The label alone; faster than the sample where the image is a file of its own."""
        _, label = self[index]  # a pair will do
        return label
