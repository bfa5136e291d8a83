"""What the loop, the evaluator and the checkpoint may ask of a data set."""

from typing import NamedTuple, Protocol

import numpy as np

IGNORE_INDEX = 255
Colour = tuple[int, int, int]
Palette = list[Colour]


class Sample(NamedTuple):
    image: np.ndarray  # uint8 H x W x 3, RGB
    label: np.ndarray  # uint8 H x W, train ids 0..C-1 and the ignore index
    name: str


class SegmentationSet(Protocol):
    """One split. Train ids are 0..len(classes)-1; pixels of `ignore_index` count nowhere."""

    classes: list[str]
    palette: Palette
    ignore_index: int
    note: str  # what a reader of numbers trained on this split should know; may be empty

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...
