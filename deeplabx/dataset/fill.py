"""Polygons to pixels, exactly as COCO's API fills them (rleFrPoly in cocoapi's maskApi.c)."""

from typing import NamedTuple

import numpy as np

SCALE = 5  # an outline is followed on a grid of this many lines for each pixel
FARTHEST = 100_000.0  # pixels: of a coordinate from 0
LONGEST_OUTLINE = 1_000_000  # pixels


class Columns(NamedTuple):
    """The pixels of some columns of an image."""

    first: int
    inside: np.ndarray  # bool, columns x height


def on_grid(coordinates: np.ndarray) -> np.ndarray:
    """Coordinates in pixels, x and y in turn, as int32 numbers of lines of the grid. They must be within
    FARTHEST.
    """
    return (SCALE * coordinates + 0.5).astype(np.int32)  # towards zero, as C does


def outline_length(ring: np.ndarray) -> int:
    """Steps on the grid along a ring of `on_grid`."""
    corners = ring.reshape(-1, 2).astype(np.int64)
    return int(np.abs(corners - np.roll(corners, -1, axis=0)).max(axis=1).sum())


def filled(ring: np.ndarray, *, height: int, width: int) -> Columns | None:
    """The pixels inside a ring of `on_grid`; None where it crosses no column of the image.

    Where an outline crosses the middle of a column, inside and outside change below the point; one that
    crosses itself is inside where it was crossed an odd number of times.
    """
    u, v = followed(ring)
    step = np.flatnonzero(u[1:] != u[:-1])
    column = np.minimum(u[step], u[step + 1]) - SCALE // 2
    row = np.minimum(v[step], v[step + 1]) - SCALE // 2
    crosses = (column % SCALE == 0) & (column >= 0) & (column <= SCALE * (width - 1))
    column, row = column[crosses] // SCALE, -(-row[crosses] // SCALE)
    if not column.size:
        return None
    first = int(column.min())
    last = int(column.max()) if column.size % 2 == 0 else width - 1
    places = (column - first) * height + row.clip(0, height)
    size = (last - first + 1) * height
    changes = np.bincount(places, minlength=size + 1)[:size]
    return Columns(first, (np.cumsum(changes) & 1).astype(bool).reshape(-1, height))


def followed(ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every point of the grid, x and y, along a ring: of each side, those nearest to it, one for each step
    along its longer direction, both ends included.
    """
    start = ring.reshape(-1, 2).astype(np.int64)
    end = np.roll(start, -1, axis=0)
    length = np.abs(end - start)
    steep = length[:, 0] < length[:, 1]
    steps = length.max(axis=1)
    along, across = (np.where(steep[:, None], pair[:, ::-1], pair) for pair in (start, end))
    # Both ends with the longer direction first; the one with the smaller number there is where rounding
    # starts.
    flipped = along[:, 0] > across[:, 0]
    low = np.where(flipped[:, None], across, along)
    high = np.where(flipped[:, None], along, across)
    slope = (high[:, 1] - low[:, 1]) / np.maximum(steps, 1)
    side = np.repeat(np.arange(len(start)), steps + 1)
    done = np.arange(side.size) - np.repeat(np.cumsum(steps + 1) - (steps + 1), steps + 1)
    done = np.where(flipped[side], steps[side] - done, done)
    longer = low[side, 0] + done
    shorter = (low[side, 1] + slope[side] * done + 0.5).astype(np.int64)  # towards zero, as C does
    turned = steep[side]
    return np.where(turned, shorter, longer), np.where(turned, longer, shorter)
