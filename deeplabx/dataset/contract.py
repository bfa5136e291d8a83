"""The interface of a data set."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

IGNORE_INDEX = 255  # of up to MOST_IN_8_BITS classes
WIDE_IGNORE_INDEX = 65535  # of more
MOST_IN_8_BITS = 254
Colour = tuple[int, int, int]
Palette = list[Colour]


class Sample(NamedTuple):
    image: np.ndarray  # uint8 H x W x channels, RGB if there are 3
    label: np.ndarray  # H x W, train ids 0..C-1 and the ignore index, of the set's `label_dtype`


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel, of pixels in 0..255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class SegmentationSet(ABC):
    """One split. Train ids are 0..len(classes)-1; pixels of `ignore_index` are not counted.

    If the classes are fixed, `classes` and `palette` are class attributes. With more than 254 classes,
    `ignore_index` is WIDE_IGNORE_INDEX and labels are uint16.
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

    @property
    def label_dtype(self) -> np.dtype:
        return label_dtype(self.ignore_index)

    def label(self, index: int) -> np.ndarray:
        """The label alone; faster than the sample where the image is a file of its own."""
        _, label = self[index]  # a pair will do
        return label


def is_class_name(name: object) -> bool:
    """Whether it is printable text, of any script: Persian and Indic words have invisible joiners."""
    return isinstance(name, str) and name.replace("\u200c", "").replace("\u200d", "").isprintable()


def ignore_index_of(num_classes: int) -> int:
    """The ignore index of a data set whose files do not choose one."""
    return IGNORE_INDEX if num_classes <= MOST_IN_8_BITS else WIDE_IGNORE_INDEX


def label_dtype(ignore_index: int) -> np.dtype:
    """Of labels with this ignore index: uint8 where it fits, else uint16."""
    return np.dtype(np.uint8 if ignore_index <= 255 else np.uint16)


def id_dtype(num_classes: int) -> np.dtype:
    """Of predicted ids, among which there is no ignore index."""
    return np.dtype(np.uint8 if num_classes <= 256 else np.uint16)


def widened(labels: np.ndarray) -> np.ndarray:
    """Labels as torch takes them: int32 in place of uint16, for which torch has few operations."""
    return labels.astype(np.int32) if labels.dtype == np.uint16 else labels
