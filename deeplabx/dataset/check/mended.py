"""The values of a mask after a repair. Masks are raw ids H x W, or uint8 colours H x W x 3."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from deeplabx.dataset.check.damage import APART
from deeplabx.dataset.check.edges import packed
from deeplabx.dataset.check.value_table import Table, distance
from deeplabx.dataset.contract import IGNORE_INDEX, WIDE_IGNORE_INDEX
from deeplabx.dataset.labels import unpacked

AREA = 12  # pixels of a row with one value that are no part of a ramp


def free_void(table: Table) -> int:
    """A raw value for void that no class has."""
    if table.by_colour:
        return next(raw for raw in (0xFFFFFF, 0xE0E0C0, *range(1, 1 << 24)) if raw not in table.meaning)
    return next(raw for raw in (IGNORE_INDEX, WIDE_IGNORE_INDEX, *range(256)) if raw not in table.meaning)


def void_of(table: Table) -> int:
    return max(raw for raw, name in table.meaning.items() if name == "ignore")


def with_void(values: np.ndarray, where: np.ndarray, table: Table) -> np.ndarray:
    """Raw values that are void at these pixels."""
    void = void_of(table)
    found = values.copy()
    found[where] = unpacked(void) if table.by_colour else void
    return found


def train_ids(values: np.ndarray, table: Table) -> np.ndarray:
    """uint16 H x W: the index of the class of each value; what is void or not in the table is 65535."""
    index_of = {name: index for index, name in enumerate(table.names)}
    flat = packed(values) if values.ndim == 3 else values
    found, where = np.unique(flat, return_inverse=True)
    ids = [index_of.get(table.meaning.get(raw, "ignore"), WIDE_IGNORE_INDEX) for raw in found.tolist()]
    return np.array(ids, np.uint16)[where].reshape(flat.shape)


def ids_of_colours(values: np.ndarray, table: Table, colours: Mapping[int, str]) -> np.ndarray:
    """Raw ids of a mask of colours. colours: the class of each, packed; the others are void."""
    raw_of = {name: raw for raw, name in reversed(table.meaning.items())}
    flat, void = packed(values), void_of(table)
    found, where = np.unique(flat, return_inverse=True)
    ids = [raw_of.get(colours.get(colour, "ignore"), void) for colour in found.tolist()]
    return np.array(ids, np.int32)[where].reshape(flat.shape)


def certain(values: np.ndarray, table: Table, *, smooth: bool) -> np.ndarray | None:
    """The values of a damaged mask whose class is certain; the others are void. None where compression noise
    may reach from the value of one class to another's.

    Compression moves values a little: each is taken for the nearest of the table. A pixel is certain if it
    lies in a square of equal pixels that is wider than the ramp between two classes, and at least 3 x 3; of
    compressed colours, 7 x 7, and not at its border.
    """
    known = sorted(table.meaning)
    void = void_of(table)
    side, border = 3, 0
    if smooth:
        side = ramp_width(packed(values) if values.ndim == 3 else values) // 2 * 2 + 3
    if not smooth:
        near = min(
            (distance(a, b, by_colour=table.by_colour) for i, a in enumerate(known) for b in known[:i]),
            default=0,
        )
        if near < APART:
            return None
        # JPEG stores hues at half the size: what lies between two classes can be a third one, and borders
        # move.
        side, border = (7, 2) if table.by_colour else (3, 0)
        values = nearest_known(values, known, within=near / 3, void=void, by_colour=table.by_colour)
    flat = packed(values) if values.ndim == 3 else values.astype(np.int32)
    solid = np.zeros(flat.shape, bool)
    for raw in known:
        own = np.pad((flat == raw).astype(np.uint8), side)  # opening must not see beyond the border
        inside = cv2.erode(own, np.ones((side, side), np.uint8))
        grown = cv2.dilate(inside, np.ones((side - 2 * border,) * 2, np.uint8))
        solid |= grown[side:-side, side:-side] > 0
    kept = np.array(values, copy=True)
    kept[~solid] = unpacked(void) if table.by_colour else void
    return kept


def ramp_width(flat: np.ndarray) -> int:
    """The width in pixels of a smooth edge along rows of H x W: the median distance between two areas. A wide
    ramp may cross a class in between that is wide itself; so may the overshoot of bicubic interpolation.
    """
    starts = np.ones(flat.shape, bool)
    starts[:, 1:] = flat[:, 1:] != flat[:, :-1]
    begins = np.flatnonzero(starts)
    ends = np.append(begins[1:], flat.size)
    areas = np.flatnonzero(ends - begins >= AREA)
    one, other = areas[:-1], areas[1:]
    edge = (other > one + 1) & (begins[one] // flat.shape[1] == begins[other] // flat.shape[1])
    widths = (begins[other] - ends[one])[edge]
    return int(np.median(widths)) if widths.size else AREA


def nearest_known(
    values: np.ndarray, known: Sequence[int], *, within: float, void: int, by_colour: bool
) -> np.ndarray:
    """Each value as the nearest one of `known`; void where none is near enough."""
    flat = packed(values) if by_colour else values
    found, where = np.unique(flat, return_inverse=True)
    channels = np.array([unpacked(raw) if by_colour else (raw,) for raw in found.tolist()], np.int64)
    centres = np.array([unpacked(raw) if by_colour else (raw,) for raw in known], np.int64)
    chosen = np.empty(len(found), np.int64)
    for begin in range(0, len(found), 4096):
        part = slice(begin, begin + 4096)
        apart = np.abs(channels[part, None] - centres[None]).max(axis=2)
        best = apart.argmin(axis=1)
        near = apart[np.arange(len(best)), best] <= within
        chosen[part] = np.where(near, np.array(known)[best], void)
    ids = chosen[where].reshape(flat.shape)
    if not by_colour:
        return ids.astype(np.int32)
    return np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=2).astype(np.uint8)
