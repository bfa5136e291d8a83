"""What one pass over a split learns of each sample: sizes, values, channel sums, fingerprints.

`data check` looks for faults in these facts, `data stats` sums them up; neither keeps pixels.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeplabx.errors import DataError


class ChannelSums(NamedTuple):
    """Of the pixels of an image, in 0..255: their number; of each channel the sum, and that of squares."""

    pixels: int
    sums: tuple[float, ...]
    squares: tuple[float, ...]


class Changes(NamedTuple):
    """Along rows, or along columns, of a mask, in numbers of pixels.

    changes: that differ from the one before. ramps: that lie between their two neighbours in value, and
    differ from both. lines: that differ from both and do not lie between them.
    """

    changes: int
    ramps: int
    lines: int


class Edges(NamedTuple):
    """How the values of a mask change from pixel to pixel. alone: the number of pixels that differ from all
    four neighbours, and lie between no two of them.
    """

    across: Changes
    down: Changes
    alone: int


@dataclass(frozen=True)
class Facts:
    """Of one sample. What could not be read is None or empty, and `problems` says why."""

    split: str
    index: int  # in the split
    image: Path | None = None  # None where images are not files
    label: Path | None = None
    problems: tuple[DataError, ...] = ()  # of reading the image, the label, and the two as a pair
    size: tuple[int, int] | None = None  # width and height of the image as it is used
    label_size: tuple[int, int] | None = None
    channels: ChannelSums | None = None
    # Pixels of each class, and last of void, int64 C + 1; None where the label cannot be used.
    pixels: np.ndarray | None = None
    raw: dict[int, int] = field(default_factory=dict)  # pixels by raw id, or by packed colour
    by_colour: bool = False  # whether `raw` are colours
    palette: dict[int, int] = field(default_factory=dict)  # packed colour by raw id, of a palette file
    values: int = 0  # number of raw values; `raw` has the most frequent ones
    solid: dict[int, int] = field(default_factory=dict)  # of them, those in the middle of 5 x 5 equal pixels
    edges: Edges | None = None
    digest: bytes = b""  # of the image file
    thumbnail: np.ndarray | None = None  # uint8 24 x 24, grey
    constant: bool = False  # whether all pixels of the image are equal
    no_data: dict[int, int] = field(
        default_factory=dict
    )  # pixels by class of black or white areas at its border
