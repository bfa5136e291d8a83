"""Regions of class ids as polygons along the edges of pixels: filled again, they give exactly the ids.

A region is 4-connected: pixels of one class that touch only at a corner are two regions. Coordinates are in
pixels, x to the right and y down, with (0, 0) the upper left corner of the upper left pixel.
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

Ring = list[tuple[int, int]]  # corners x, y, in order; the first is not repeated


class Region(NamedTuple):
    """The outline of a 4-connected region, and its holes.

    By the sign of its area, x * dy - y * dx, the outline is positive and a hole negative, as RFC 7946 asks.
    """

    class_id: int
    area: int  # pixels
    outline: Ring
    holes: list[Ring]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width, height."""
        xs, ys = [x for x, _ in self.outline], [y for _, y in self.outline]
        return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def regions_of(ids: np.ndarray) -> Iterator[Region]:
    """The regions of class ids H x W, in the order of their first pixel by rows."""
    numbers, class_ids = numbered_regions(ids)
    outlines: list[Ring] = [[] for _ in class_ids]
    holes: list[list[Ring]] = [[] for _ in class_ids]
    areas = np.bincount(numbers.ravel(), minlength=len(class_ids)).tolist()
    for number, ring in rings(numbers):
        if signed_area(ring) > 0:
            outlines[number] = ring
        else:
            holes[number].append(ring)
    for number, class_id in enumerate(class_ids):
        yield Region(class_id, areas[number], outlines[number], holes[number])


def numbered_regions(ids: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The number of each pixel's region, int32 H x W, by the first pixel of each; and each region's class."""
    numbers = np.zeros(ids.shape, np.int32)
    count = 0
    for class_id in np.unique(ids).tolist():
        own = ids == class_id
        found, labels = cv2.connectedComponents(own.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        np.copyto(numbers, labels + (count - 1), where=own)
        count += found - 1
    flat = numbers.ravel()
    first = np.empty(count, np.int64)
    first[flat[::-1]] = np.arange(flat.size - 1, -1, -1)  # of the values for one number, the last one stays
    order = np.argsort(first)
    rank = np.empty(count, np.int32)
    rank[order] = np.arange(count, dtype=np.int32)
    return rank[numbers], ids.ravel()[first[order]].tolist()


def rings(numbers: np.ndarray) -> Iterator[tuple[int, Ring]]:
    """Each closed line around a region, with the region's number; outlines clockwise as they are seen.

    The horizontal sides of all regions, each as long as it is straight, are listed and then joined: the end
    of each by a vertical side to the start of another. In one column, the vertical sides of a region that
    lead up are disjoint, so the sorted ends and the sorted starts belong together one to one; so do those of
    the sides that lead down. Where two pixels of a region touch at a corner only, the line turns around the
    others: a hole stays a ring of its own that touches the outline there.
    """
    padded = np.pad(numbers, 1, constant_values=-1)
    upper, lower = padded[:-1], padded[1:]  # row y of each: the pixels above and below the line y
    top, bottom = (
        horizontal_sides(own, beyond, upper, lower, own_is_lower=own is lower)
        for own, beyond in ((lower, upper), (upper, lower))
    )
    region, y, start, end, start_up, end_up = (np.concatenate(pair) for pair in zip(top, bottom, strict=True))
    following = np.empty(len(region), np.int64)
    for upwards in (True, False):
        leaving, arriving = (np.flatnonzero(flags == upwards) for flags in (end_up, start_up))
        leaving = leaving[np.lexsort((y[leaving], end[leaving], region[leaving]))]
        arriving = arriving[np.lexsort((y[arriving], start[arriving], region[arriving]))]
        following[leaving] = arriving
    yield from cycles(following.tolist(), region.tolist(), start.tolist(), end.tolist(), y.tolist())


def horizontal_sides(
    own: np.ndarray, beyond: np.ndarray, upper: np.ndarray, lower: np.ndarray, *, own_is_lower: bool
) -> tuple[np.ndarray, ...]:
    """The straight horizontal sides of all regions that lie below (`own_is_lower`), or above, a line: region,
    y, x of start and end, and whether the line comes to the start, and leaves the end, upwards.

    Those with the region below lead to the right, the others to the left. In the padded rows, column x + 1 is
    the pixel x.
    """
    side = own != beyond
    side &= own >= 0
    # A side goes on where the next pixel is of the same region and has a side too.
    joined = side[:, :-1] & side[:, 1:] & (own[:, :-1] == own[:, 1:])
    first, last = side.copy(), side.copy()
    first[:, 1:] &= ~joined
    last[:, :-1] &= ~joined
    y, left = np.nonzero(first)
    _, right = np.nonzero(last)
    region = own[y, left]
    if own_is_lower:
        # Comes from above where the region goes on there, up-left of the start; leaves likewise up-right.
        start_up = upper[y, left - 1] != region
        end_up = upper[y, right + 1] == region
        start, end = left - 1, right
    else:
        start_up = lower[y, right + 1] == region
        end_up = lower[y, left - 1] != region
        start, end = right, left - 1
    return region, y, start, end, start_up, end_up


def cycles(
    following: list[int], region: list[int], start: list[int], end: list[int], y: list[int]
) -> Iterator[tuple[int, Ring]]:
    seen = bytearray(len(following))
    for first in range(len(following)):
        if seen[first]:
            continue
        ring: Ring = []
        side = first
        while not seen[side]:
            seen[side] = 1
            ring += [(start[side], y[side]), (end[side], y[side])]
            side = following[side]
        yield region[first], ring


def signed_area(ring: Ring) -> int:
    """Positive for one that is clockwise as it is seen, y down. Its sides are horizontal and vertical in
    turn, beginning with a horizontal one.
    """
    return sum(y * (before - after) for (before, y), (after, _) in zip(ring[::2], ring[1::2], strict=True))


def run_lengths(region: Region, shape: tuple[int, int]) -> list[int]:
    """COCO's uncompressed RLE of a region in an image of `shape` (height, width): column by column, the
    lengths of runs outside and inside in turn, the first one outside.
    """
    height, width = shape
    left, top, across, down = region.box
    # The parity of the horizontal sides above a pixel says whether it is inside.
    toggles = np.zeros((down + 1, across), bool)
    for ring in (region.outline, *region.holes):
        for (x0, y), (x1, _) in zip(ring[::2], ring[1::2], strict=True):
            toggles[y - top, min(x0, x1) - left : max(x0, x1) - left] ^= True
    inside = np.logical_xor.accumulate(toggles, axis=0)[:-1]
    columns, rows = np.nonzero(inside.T)
    places = (columns + left).astype(np.int64) * height + rows + top
    breaks = np.flatnonzero(np.diff(places) != 1)
    starts = places[np.concatenate([[0], breaks + 1])]
    ends = places[np.concatenate([breaks, [len(places) - 1]])] + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    lengths = np.diff(edges, prepend=0).tolist()
    rest = height * width - int(ends[-1])
    return [*lengths, rest] if rest else lengths
