"""Overlapping windows over an image, or over a file that is too large to be one in memory: where they lie,
how much each counts where several overlap, and the scores of those that the next ones still overlap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from deeplabx.dataset.contract import label_dtype

OVERLAP = 1 / 3  # of the window's side, at least
STRIP_BYTES = 2**29  # of the scores that are held at once: a wider image is predicted in strips of columns
LEAST_STRIP = 4  # windows beside each other in a strip, whatever they take


class Source(Protocol):
    """uint8 pixels height x width x channels, read by windows."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def channels(self) -> int: ...

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """uint8 pixels of rows top..bottom and columns left..right, without the last ones."""

    def valid(self, top: int, bottom: int, left: int, right: int) -> np.ndarray | None:
        """Which pixels hold data, bool; None where all do."""


class ArraySource:
    """An image in memory, uint8 H x W x channels."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self.height, self.width, self.channels = image.shape

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        return self.image[top:bottom, left:right]

    def valid(self, top: int, bottom: int, left: int, right: int) -> np.ndarray | None:
        return None


class Band(NamedTuple):
    """Finished rows of a source, or of a strip of its columns.

    number: of the band, counted from 0. ids: rows x columns, `nodata` where the source has none.
    probabilities: float32 classes x rows x columns, 0 where there is no data; None where there is none at
    all, or they were not asked for. overlapped: pixels that at least two windows cover; differing: those of
    them to which two windows alone would give different classes.
    """

    number: int
    top: int
    left: int
    ids: np.ndarray
    probabilities: np.ndarray | None
    overlapped: int
    differing: int


def window_starts(length: int, window: int) -> list[int]:
    """Start positions of windows that cover `length`, evenly apart; the last one ends at `length`."""
    if length <= window:
        return [0]
    stride = max(1, int(window * (1 - OVERLAP)))
    steps = math.ceil((length - window) / stride)
    return [number * (length - window) // steps for number in range(steps + 1)]


@dataclass(frozen=True)
class Axis:
    """Windows along one direction, and the weight of each of their pixels. The weights of all windows add up
    to 1 at each position: they fall to the edges of a window as a squared sine and never reach 0.
    """

    length: int
    window: int
    starts: list[int]
    weights: list[Tensor]

    @classmethod
    def of(cls, length: int, window: int) -> "Axis":
        starts = window_starts(length, window)
        total = np.zeros(length)
        ends = [min(start + window, length) for start in starts]
        ramp = edge_weights(window)
        for start, end in zip(starts, ends, strict=True):
            total[start:end] += ramp[: end - start]
        shares = [
            torch.from_numpy((ramp[: end - start] / total[start:end]).astype(np.float32))
            for start, end in zip(starts, ends, strict=True)
        ]
        return cls(length, window, starts, shares)

    def end(self, index: int) -> int:
        return min(self.starts[index] + self.window, self.length)

    @property
    def parts(self) -> list[tuple[int, int]]:
        """For each window, the positions from its start to that of the next one."""
        return list(pairwise([*self.starts, self.length]))

    def touching(self, begin: int, end: int) -> list[int]:
        """The windows that cover any of the positions begin..end."""
        return [index for index, start in enumerate(self.starts) if start < end and self.end(index) > begin]


def edge_weights(window: int) -> np.ndarray:
    """Weights of a window's pixels before they are shared: 1 but for the overlap, where they fall."""
    distance = np.minimum(np.arange(window), np.arange(window)[::-1]) + 0.5
    return np.sin(np.pi / 2 * np.minimum(1, distance / (window * OVERLAP))) ** 2


class Strip(NamedTuple):
    """Columns left..right of an image, and the windows (of the axis of columns) that cover any of them."""

    left: int
    right: int
    windows: list[int]


@dataclass(frozen=True)
class Grid:
    """The windows over an image. Strips follow each other, and in each the bands from above to below."""

    rows: Axis
    columns: Axis
    strips: list[Strip]
    num_classes: int

    @classmethod
    def of(cls, height: int, width: int, *, window: int, num_classes: int) -> "Grid":
        rows, columns = Axis.of(height, window), Axis.of(width, window)
        fitting = STRIP_BYTES // (4 * num_classes * window)  # columns
        each = max(LEAST_STRIP, fitting * len(columns.starts) // max(1, width))
        parts = columns.parts
        bounds = [
            (parts[first][0], parts[min(first + each, len(parts)) - 1][1])
            for first in range(0, len(parts), each)
        ]
        strips = [Strip(left, right, columns.touching(left, right)) for left, right in bounds]
        return cls(rows, columns, strips, num_classes)

    @property
    def bands(self) -> int:
        return len(self.strips) * len(self.rows.starts)

    @property
    def windows(self) -> int:
        """How many there are to be computed."""
        return len(self.rows.starts) * sum(len(strip.windows) for strip in self.strips)


@dataclass
class Blend:
    """The scores of a strip's unfinished rows: of one row of windows, and what those above left in it."""

    grid: Grid
    strip: Strip
    nodata: int
    device: torch.device
    holds: bool = False  # anything
    scores: Tensor | None = None  # float32 classes x window x columns
    first: Tensor = field(init=False)  # int32: the class by the first window at each pixel, -1 for none
    marks: Tensor = field(init=False)  # uint8: 1 for data, 2 for a second window, 4 for another class in it

    def __post_init__(self) -> None:
        size = self.grid.rows.window, self.strip.right - self.strip.left
        self.first = torch.full(size, -1, dtype=torch.int32, device=self.device)
        self.marks = torch.zeros(size, dtype=torch.uint8, device=self.device)

    def add(self, row: int, column: int, top: int, scores: Tensor, valid: Tensor | None) -> None:
        """Add the scores classes x h x w of a window of `row` and `column`. top: the first unfinished row."""
        self.holds = True
        rows, columns = self.grid.rows, self.grid.columns
        offset, start = rows.starts[row] - top, columns.starts[column]
        left, right = max(start, self.strip.left), min(columns.end(column), self.strip.right)
        above = max(0, -offset)  # rows of the window that are finished already
        inner = slice(above, scores.shape[1]), slice(left - start, right - start)
        outer = (
            slice(offset + above, offset + scores.shape[1]),
            slice(left - self.strip.left, right - self.strip.left),
        )
        part = scores[:, inner[0], inner[1]]
        if self.scores is None:
            size = self.first.shape
            self.scores = torch.zeros(len(scores), *size, device=self.device)
        classes = part.max(dim=0).indices.int()
        first, marks = self.first[outer], self.marks[outer]
        seen = first >= 0
        marks |= seen * 2 + (seen & (first != classes)) * 4
        marks |= 1 if valid is None else valid[inner].to(torch.uint8)
        first.copy_(torch.where(seen, first, classes))
        down = rows.weights[row][inner[0]].to(self.device)[:, None]
        across = columns.weights[column][inner[1]].to(self.device)
        self.scores[:, outer[0], outer[1]] += part * (down * across)

    def take(self, number: int, top: int, count: int, *, softmax: bool, probabilities: bool) -> Band:
        """The first `count` rows, finished; they make room for others. softmax: of scores that are logits."""
        dtype = label_dtype(self.nodata)
        if not self.holds:
            empty = np.full((count, self.strip.right - self.strip.left), self.nodata, dtype)
            return Band(number, top, self.strip.left, empty, None, 0, 0)
        marks = self.marks[:count]
        valid = (marks & 1).bool()
        found = None
        ids = torch.full(marks.shape, self.nodata, dtype=torch.int32, device=self.device)
        if self.scores is not None:
            scores = self.scores[:, :count]
            ids = torch.where(valid, scores.max(dim=0).indices.int(), ids)
            if probabilities:
                found = ((scores.softmax(dim=0) if softmax else scores) * valid).cpu().numpy()
            for channel in self.scores:  # one by one: no copy of them all
                move_up(channel, count, 0)
        overlapped, differing = (int(((marks & (bit | 1)) == bit | 1).sum()) for bit in (2, 4))
        move_up(self.first, count, -1)
        move_up(self.marks, count, 0)
        self.holds = bool(self.marks.any())
        if not self.holds:  # scores of pixels without data may be left, which the next window must not meet
            self.scores = None
            self.first.fill_(-1)
        plain = ids.cpu().numpy().astype(dtype)
        return Band(number, top, self.strip.left, plain, found, overlapped, differing)


def move_up(lines: Tensor, count: int, fill: int) -> None:
    """Move lines `count` up; those that come from below are `fill`."""
    rest = len(lines) - count
    if rest > 0:
        lines[:rest] = lines[count:].clone()
    lines[max(0, rest) :] = fill


def chunks(items: Sequence[int], most: int) -> list[Sequence[int]]:
    return [items[first : first + most] for first in range(0, len(items), most)]
